"""How a decode step grows with the context, and the largest context and batch that fit: both are of many sizes."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from kvbench.records.part import Estimate, Measured, Part, Speedup

Order = Literal["constant", "linear", "quadratic", "growing", "irregular"]
Form = Literal["sum", "max"]
Axis = Literal["context", "batch"]
Outcome = Literal["fits", "oom", "infeasible", "crashed", "timeout", "failed"]


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

    WHY_NULL = MappingProxyType({"exponent": "the lengths are the same"})

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


class FrontierTry(Part):
    """One attempt in a worker of its own: `size` tokens of context, or sequences, and how it ended."""

    WHY_NULL = MappingProxyType({"peak_bytes": "the try did not come to its end"})

    size: int
    outcome: Outcome
    peak_bytes: int | None
    seconds: float


class Tried(FrontierTry):
    """One try of a search, as its parent saw it end."""

    arm: int
    axis: Axis
    fixed: int  # the other one
    predicted: int | None
    detail: str


@dataclass(frozen=True)
class SearchEnd:
    """Why the search of one arm along one axis ended; `closed`: at an edge or a limit, not for want of tries."""

    arm: int
    axis: str
    closed: bool
    detail: str


@dataclass(frozen=True)
class Capacity:
    """The memory that sizes are sought for, and what is in use of it besides a model's weights."""

    limit_bytes: int | None
    overhead_bytes: int
    of_process: bool  # whether the limit is one of the worker's resident memory, which its parent enforces


@dataclass(frozen=True)
class Attempting:
    """The model is loaded and a try begins: its time and its memory count from here."""


@dataclass(frozen=True)
class Attempted:
    """A try that came to its end, and the most memory that was in use, in bytes, whatever it was allowed."""

    peak_bytes: int | None


class FrontierEdge(Part):
    """The largest size of one arm along one axis, the other one held at `fixed`.

    `found` fits and the next size tried above it does not (`found_above`); null where nothing fits, or where the
    search met another limit, which `detail` names. `error` is (predicted - found) / found.
    """

    WHY_NULL = MappingProxyType(
        {"predicted": "the model's configuration states too little for a prediction of its memory"}
    )

    arm: int
    axis: Axis
    fixed: int
    predicted: int | None
    found: int | None
    found_above: int | None
    error: float | None
    tries: tuple[FrontierTry, ...]
    detail: str


class Frontier(Part):
    """Every edge that one run has looked for, within `limit_bytes` of memory."""

    WHY_NULL = MappingProxyType({"limit_bytes": "nothing limits the memory"})

    limit_bytes: int | None
    edges: tuple[FrontierEdge, ...]
