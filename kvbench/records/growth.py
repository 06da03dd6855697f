"""Parts of a record that tell how a decode step grows with the context."""

from __future__ import annotations

from typing import Literal

from kvbench.records.part import Estimate, Measured, Part, Speedup

Order = Literal["constant", "linear", "quadratic", "growing", "irregular"]
Form = Literal["sum", "max"]


class GrowthPoint(Measured):
    """ITL of one arm around one context length: the mean over the run's few steps, median over blocks."""

    arm: int
    context_length: float
    itl_s: Estimate


class Law(Measured):
    """The time of one arm's step at context L, fitted by least squares of relative errors in every block by itself.

    `form` "sum": launch + a·L + b·L², where the host computes or waits; "max": max(launch, a·L + b·L²), where it runs
    ahead of the device and the slower of the two counts. Coefficients are means over blocks with Student's t
    intervals. `growth` is the step at the longest over the step at the shortest length, `exponent` its logarithm over
    that of the lengths: 0 is constant, 1 proportional. `order` is the highest term whose interval excludes 0 and that
    makes more than 2 % of the longest step; "irregular" where the law is of neither form: it misses a point by more
    than 5 % beyond what the noise of the blocks may account for, or a term takes off more than 10 %. A step
    that takes as long at either end, as far as the interval of `growth` tells, is constant; one that takes longer at
    the longest while no term's interval excludes 0 is "growing": noise hides by which power.
    """

    arm: int
    form: Form = "sum"
    launch_s: Estimate
    per_token_s: Estimate
    per_token2_s: Estimate
    growth: Speedup
    exponent: float | None
    order: Order
    worst_error: float  # largest relative distance of a point's mean from the law


class Total(Measured):
    """Seconds of decoding so many new tokens from the shortest length, by the law."""

    arm: int
    new_tokens: int
    seconds: Estimate
    beyond_range: bool  # whether the law is asked about longer contexts than were measured


class BreakEven(Part):
    """The context length from which a candidate's step is faster than the baseline's.

    By the two laws, or by the measured points where the laws miss them; where nothing is told apart up to the knee of
    the baseline's maximum, the knee. The interval holds the lengths at which the
    difference is not told from 0. All three are null where there is no such length within the range; where only one
    side of it was seen, the end of the interval on that side stands alone. `detail` says it in words.
    """

    baseline_arm: int
    candidate_arm: int
    context_length: float | None
    ci_low: float | None
    ci_high: float | None
    level: float
    detail: str


class DecodeCheck(Part):
    """A long generation held against the law. `error` is (measured - predicted) / predicted of the second time."""

    arm: int
    prompt_tokens: int
    new_tokens: int
    first_s: float
    second_s: float
    predicted_s: float
    error: float
    first_step_s: tuple[float, ...]
    second_step_s: tuple[float, ...]


class Growth(Part):
    """Everything about growth that one run has measured."""

    shortest: float
    longest: float
    points: tuple[GrowthPoint, ...]
    laws: tuple[Law, ...]
    totals: tuple[Total, ...]
    break_evens: tuple[BreakEven, ...]
    decodes: tuple[DecodeCheck, ...]
