"""The verdict on whether a candidate arm computes what the baseline computes."""

from __future__ import annotations

from kvbench.measuring.samples import AgreementFigures
from kvbench.records.agreement import Agreement, Verdict

# A candidate may differ by more than the two other summation orders that were tried, since a cached step runs
# matrix-vector kernels where the baseline runs matrix-matrix ones, but not by several times as much. Seen: 1.05 times
# in bfloat16 on an H200, 3 times in float32 on a CPU.
NOISE_MARGIN = 5.0

# Rounding may happen to be invisible in the shapes tried; a few units in the last place of the largest logit are
# always allowed, accumulated over the layers.
# Activations in 8 bits move in steps of 1/127 of a row's largest, so a step's half decides many roundings.
LEAST_NOISE = {"float64": 1e-13, "float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3, "int8": 8e-3}

# Whatever the noise: beyond these relative differences no sound computation in this type lands (worst seen over
# 64 steps, with room: 7e-6, 4e-3 and 3e-2).
OUTER_GATE = {"float64": 1e-6, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "int8": 1e-1}

NOT_FINITE = "not judged: the logits are not finite numbers; try model.dtype=float32 or bfloat16"
NOT_CHECKED = Agreement(
    verdict=None,
    first_divergence=None,
    top2_margin=None,
    max_abs_logit_diff=None,
    kl=None,
    noise_abs=None,
    steps=0,
    detail="not checked (check.agreement=none, or the run ended before)",
)


def judge(figures: AgreementFigures | None) -> Agreement:
    """The verdict with the figures it rests on."""
    if figures is None:
        return NOT_CHECKED
    if figures.max_rel_logit_diff is None or figures.noise_rel is None:
        return NOT_CHECKED.model_copy(update={"steps": figures.steps, "detail": NOT_FINITE})
    verdict = _verdict(figures.max_rel_logit_diff, figures.noise_rel, figures.dtype)
    return Agreement(
        verdict=verdict,
        first_divergence=figures.first_divergence,
        top2_margin=figures.top2_margin,
        max_abs_logit_diff=figures.max_abs_logit_diff,
        kl=figures.kl,
        noise_abs=figures.noise_abs,
        steps=figures.steps,
        detail=_detail(figures, verdict),
        max_rel_logit_diff=figures.max_rel_logit_diff,
        noise_rel=figures.noise_rel,
        allowed_rel=tolerance(figures.noise_rel, figures.dtype),
        argmax_flips=figures.argmax_flips,
    )


def tolerance(noise_rel: float, dtype: str) -> float:
    """The largest relative logit difference that counts as rounding."""
    allowed = NOISE_MARGIN * max(noise_rel, LEAST_NOISE.get(dtype, LEAST_NOISE["bfloat16"]))
    return min(allowed, OUTER_GATE.get(dtype, OUTER_GATE["bfloat16"]))


def _verdict(difference_rel: float, noise_rel: float, dtype: str) -> Verdict:
    if difference_rel == 0:
        return "IDENTICAL"
    return "EQUAL_WITHIN_ROUNDING" if difference_rel <= tolerance(noise_rel, dtype) else "MISMATCH"


def _detail(figures: AgreementFigures, verdict: Verdict) -> str:
    limit = tolerance(figures.noise_rel or 0.0, figures.dtype)
    text = (
        f"largest relative logit difference {figures.max_rel_logit_diff:.1e} over {figures.steps} steps on one token"
        f" path; rounding alone {figures.noise_rel:.1e}, allowed {limit:.1e}"
    )
    if figures.argmax_flips:
        text += f"; the likeliest token differs {figures.argmax_flips} times"
    if figures.first_divergence is None:
        return text + "; free runs give the same tokens"
    margin = "" if figures.top2_margin is None else f" where the two best logits are {figures.top2_margin:.1e} apart"
    if verdict == "MISMATCH":
        cause = "a cache bug or another computation"
    else:
        cause = "a draw that rounding tipped" if figures.sampled else "a near-tie"
    return f"{text}; free runs part at new token {figures.first_divergence}{margin}: {cause}"
