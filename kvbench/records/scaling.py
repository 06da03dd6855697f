"""How a decode step grows with the context, and the largest context and batch that fit: both are of many sizes."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from kvbench.records.part import Estimate, Measured, Part, Speedup, figure

Order = Literal["constant", "linear", "quadratic", "growing", "irregular"]
Form = Literal["sum", "max"]
Axis = Literal["context", "batch"]
Outcome = Literal["fits", "oom", "infeasible", "crashed", "timeout", "failed"]


class GrowthPoint(Measured):
    """ITL of one arm around one context length: the mean over the run's few steps, median over blocks."""

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    context_length: float = figure("context", "tokens", "none", "Tokens visible to the steps, their mean.")
    itl_s: Estimate = figure("ITL", "s", "lower", "Mean of the run's few steps at this context, median over blocks.")


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

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    form: Form = "sum"
    launch_s: Estimate = figure("constant term", "s", "lower", "What a step takes whatever the context.")
    per_token_s: Estimate = figure("linear term", "s", "lower", "What each token of context adds to a step.")
    per_token2_s: Estimate = figure(
        "quadratic term", "s", "lower", "What each squared token of context adds to a step."
    )
    growth: Speedup = figure("growth", "times", "lower", "The step at the longest length over that at the shortest.")
    exponent: float | None = figure(
        "exponent", "1", "lower", "Logarithm of the growth over that of the lengths: 0 is constant, 1 proportional."
    )
    order: Order
    worst_error: float = figure(
        "worst error", "ratio", "lower", "Largest relative distance of a point's mean from the law."
    )


class Total(Measured):
    """Seconds of decoding so many new tokens from the shortest length, by the law."""

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    new_tokens: int = figure("new tokens", "tokens", "none", "Decoded from the shortest length.")
    seconds: Estimate = figure("decode time", "s", "lower", "Of so many new tokens, by the law.")
    beyond_range: bool  # whether the law is asked about longer contexts than were measured


class BreakEven(Part):
    """The context length from which a candidate's step is faster than the baseline's.

    By the two laws, or by the measured points where the laws miss them; where nothing is told apart up to the knee of
    the baseline's maximum, the knee. The interval holds the lengths at which the
    difference is not told from 0. All three are null where there is no such length within the range; where only one
    side of it was seen, the end of the interval on that side stands alone. `detail` says it in words.
    """

    baseline_arm: int = figure("baseline", "index", "none", "Place of the baseline in the record's list of arms.")
    candidate_arm: int = figure("candidate", "index", "none", "Place of the candidate in the record's list of arms.")
    context_length: float | None = figure(
        "break-even", "tokens", "lower", "Context length from which the candidate's step is the faster one."
    )
    ci_low: float | None = figure(
        "interval, lower end", "tokens", "none", "Below it the baseline's step is the faster one."
    )
    ci_high: float | None = figure(
        "interval, upper end", "tokens", "none", "Above it the candidate's step is the faster one."
    )
    level: float = figure("coverage", "ratio", "none", "Share of such intervals that hold the true value.")
    detail: str


class DecodeCheck(Part):
    """A long generation held against the law. `error` is (measured - predicted) / predicted of the second time."""

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    prompt_tokens: int = figure("prompt", "tokens", "none", "Tokens of the prompt.")
    new_tokens: int = figure("new tokens", "tokens", "none", "New tokens of every sequence.")
    first_s: float = figure("decode time, first time", "s", "lower", "Of the generation, at lengths not seen before.")
    second_s: float = figure("decode time, second time", "s", "lower", "The same again.")
    predicted_s: float = figure("decode time, predicted", "s", "none", "By the law.")
    error: float = figure(
        "error of the law", "ratio", "none", "(measured - predicted) ÷ predicted, of the second time; 0 is none."
    )
    first_step_s: tuple[float, ...] = figure("decode steps, first time", "s", "lower", "Each step of the generation.")
    second_step_s: tuple[float, ...] = figure("decode steps, second time", "s", "lower", "Each step of the generation.")


class Growth(Part):
    """Everything about growth that one run has measured."""

    shortest: float = figure("shortest context", "tokens", "none", "Of the lengths measured.")
    longest: float = figure("longest context", "tokens", "none", "Of the lengths measured.")
    points: tuple[GrowthPoint, ...]
    laws: tuple[Law, ...]
    totals: tuple[Total, ...]
    break_evens: tuple[BreakEven, ...]
    decodes: tuple[DecodeCheck, ...]


class FrontierTry(Part):
    """One attempt in a worker of its own: `size` tokens of context, or sequences, and how it ended."""

    WHY_NULL = MappingProxyType({"peak_bytes": "the try did not come to its end"})

    size: int = figure("size", "of its axis", "none", "Tokens of context, or sequences.")
    outcome: Outcome
    peak_bytes: int | None = figure("peak", "bytes", "lower", "Highest memory of the attempt.")
    seconds: float = figure("duration", "s", "lower", "How long the attempt took.")


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

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    axis: Axis
    fixed: int = figure("other size", "of its axis", "none", "What the other axis is held at.")
    predicted: int | None = figure("predicted", "of its axis", "higher", "The largest size that should fit.")
    found: int | None = figure("found", "of its axis", "higher", "The largest size that fits.")
    found_above: int | None = figure(
        "found too large", "of its axis", "none", "The next size tried above it, which does not fit."
    )
    error: float | None = figure("error of the prediction", "ratio", "none", "(predicted - found) ÷ found; 0 is none.")
    tries: tuple[FrontierTry, ...]
    detail: str


class Frontier(Part):
    """Every edge that one run has looked for, within `limit_bytes` of memory."""

    WHY_NULL = MappingProxyType({"limit_bytes": "nothing limits the memory"})

    limit_bytes: int | None = figure("limit", "bytes", "none", "Memory within which the sizes were looked for.")
    edges: tuple[FrontierEdge, ...]
