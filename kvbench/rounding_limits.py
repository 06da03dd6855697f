"""How large a difference of logits rounding can be held responsible for: the numbers that every verdict goes by."""

from __future__ import annotations

import math

# Of one number: the distance from 1 to the next larger one, relative. A logit cannot be told more finely, so rounding
# is never taken to be less, even where every way tried gave the same bits. float64 models have float32's, because
# transformers' norms and rotary tables are float32 whatever the rest is; 8-bit activations are 127 steps of a row's
# largest.
RESOLUTION = {"float64": 2**-23, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7, "int8": 1 / 127}

# The largest relative difference that a sound computation in such a type was seen to make over 64 steps (7e-6, 4e-3
# and 3e-2), with room. Another order of summing that lies beyond is another computation: padding that a model takes
# for text, for instance.
OUTER_GATE = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "int8": 1e-1}

# Where the error of rounding is measured against the same model in a wider type, an arm's may be so many times as
# large: the geometric mean of many steps, one step, and the second worst of all. A sound cached step has 0.6 to 1.3
# times the error of recompute over a run, since other kernels round otherwise. An unlucky sum makes its worst step 5.7
# times as wrong, but no two of them more than 3.2 times. A fault of three times rounding's own size makes an error 3.2
# times as large (tests/benchmarks/judge.py).
RATIO_OF_MANY = 1.45
RATIO_OF_FEW = 2.6
RATIO_OF_ONE = 6.5
RATIO_OF_TWO = 3.3
# Without a wider type only the other orders of summing are there to go by. A recurrence that is computed in one scan or
# step by step differs by up to 8 times what they do.
UNMEASURED = 4.0

# Of log-probabilities there is one number at a position, and no vocabulary to average over. In sound models of 30
# architectures the mean ratio of 256 positions was 0.4 to 1.04 and that of 64 at most 1.3, the worst of 256 up to 12.3
# and the second worst up to 7.9 (tests/benchmarks/rescore.py --sound). Tails are heavy, so that of more positions or
# sequences the worst is worse.
RESCORE_MANY = 1.45
RESCORE_FEW = 6.5
RESCORE_ONE = 25.0
RESCORE_TWO = 12.0
RESCORE_POSITIONS = 512  # from which on the worst of them may be worse


def allowed_rescore(positions: int, *, sequences: int = 1, measured: bool = True) -> float:
    """How many times rounding's own the mean error of so many log-probabilities may be, in the worst of `sequences`.

    `measured` is whether both were measured against the same model in a wider type.
    """
    allowed = RESCORE_MANY + (RESCORE_FEW - RESCORE_MANY) / math.sqrt(positions) * math.cbrt(sequences)
    return allowed if measured else UNMEASURED * allowed


def allowed_rescore_at_worst(positions: int, *, second: bool = False, measured: bool = True) -> float:
    """The same of the worst of so many positions, or of the `second` worst."""
    allowed = (RESCORE_TWO if second else RESCORE_ONE) * math.cbrt(max(1.0, positions / RESCORE_POSITIONS))
    return allowed if measured else UNMEASURED * allowed


def allowed_ratio(samples: int, *, measured: bool = True) -> float:
    """How many times rounding's own error the geometric mean of so many errors may be.

    `measured` is whether both were measured against the same model in a wider type.
    """
    allowed = RATIO_OF_MANY + (RATIO_OF_FEW - RATIO_OF_MANY) / math.sqrt(samples)
    return allowed if measured else UNMEASURED * allowed


def allowed_at_worst(*, second: bool = False, measured: bool = True) -> float:
    """The same of the worst of all steps, or of the `second` worst."""
    allowed = RATIO_OF_TWO if second else RATIO_OF_ONE
    return allowed if measured else UNMEASURED * allowed


def resolution(dtype: str) -> float:
    """The relative distance of two numbers of a type; of an unknown one bfloat16's."""
    return RESOLUTION.get(dtype, RESOLUTION["bfloat16"])


def outer_gate(dtype: str) -> float:
    """The largest relative difference that is taken for rounding in a type; in an unknown one bfloat16's."""
    return OUTER_GATE.get(dtype, OUTER_GATE["bfloat16"])
