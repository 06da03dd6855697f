"""Log-probabilities that decoding gave beside those of one pass over the finished text: as measured, and as judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from kvbench.records.agreement_figures import AgreementVerdict
from kvbench.records.part import Part, SeriesPoint, figure

# As measured.


@dataclass(frozen=True)
class WayTried:
    """Another order of summing; `skipped` says why it could not be tried."""

    name: str
    by_product: bool
    skipped: str = ""


@dataclass(frozen=True)
class Scores:
    """One text scored by single passes: log-probabilities in nats, one per token that decoding chose.

    `weights` say how much an error of the logits moves each of them: with probabilities p and independent errors of
    one size, sqrt((1 - p of the token)² + the sum of all other p²) times that size.
    """

    rescored: tuple[float, ...]
    reference: tuple[float, ...] | None  # in a wider type
    weights: tuple[float, ...]
    others: Mapping[str, tuple[float, ...]]  # by other order of summing; empty where none was tried
    logit_rms: float
    largest_logit: float


@dataclass(frozen=True)
class ScoredSequence:
    """One sequence: what decoding gave, and what single passes give."""

    sequence: int  # place in the list of prompts
    decoded: tuple[float, ...]
    scores: Scores
    written_to: float = 0.0  # half a unit in the last place that `decoded` was written to, in nats
    kept: tuple[float, ...] | None = None  # of a quantised cache: by a plain one whose contents are rounded alike


@dataclass(frozen=True)
class RescoreSamples:
    """Everything that the verdict on one arm, or on log-probabilities from elsewhere, rests on."""

    arm: int
    dtype: str  # that the model computes in
    sequences: tuple[ScoredSequence, ...]
    ways: tuple[WayTried, ...] = ()
    reference: str = ""  # the wider type
    without_reference: str = ""  # why there is none
    experts: bool = False  # whether routers choose, and one step may go elsewhere
    cache: str = ""  # the kind of a quantised cache
    worst_steps: float | None = None  # its quantiser's largest error, in steps
    temperature: float = 1.0
    # Of the first sequence: what one pass gives at other temperatures.
    temperatures: Mapping[float, tuple[float, ...]] = field(default_factory=dict)
    from_elsewhere: bool = False  # whether somebody else computed what decoding is said to have given


# As judged.


class RescorePoint(SeriesPoint):
    """Neighbouring positions of the answers, over all sequences."""

    WHY_NULL = MappingProxyType({"*": "other orders of summing were not tried at these positions"})

    position: int = figure("position", "index", "none", "First of these positions in the answer; 0 is its first token.")
    mean_abs_difference: float = figure(
        "mean difference", "nats", "lower", "Mean absolute difference of the two log-probabilities."
    )
    max_abs_difference: float = figure(
        "largest difference", "nats", "lower", "Largest absolute difference of the two log-probabilities."
    )
    rounding_mean_abs: float | None = figure(
        "rounding", "nats", "lower", "Mean absolute difference that another order of summing makes there.", default=None
    )


class RescoreWay(Part):
    """One pass against the same in another order of summing; `skipped` says why it is missing."""

    WHY_NULL = MappingProxyType({"*": "this order of summing could not be tried, see skipped"})

    way: str
    mean_abs_difference: float | None = figure(
        "rounding", "nats", "lower", "Mean absolute difference of the log-probabilities."
    )
    skipped: str = ""


class RescoreError(Part):
    """How large the errors of the log-probabilities are, in multiples of those that rounding makes.

    Errors are differences from one pass in the type `reference`, or, where that is empty, from one pass in the model's
    own. Each is divided by what the same error of the logits would move it, so that sure and unsure tokens count alike.
    Rounding's own errors are those of one pass in the usual and in other orders of summing.
    """

    reference: str
    ratio: float = figure("error over rounding's", "times", "lower", "Mean over all positions and sequences.")
    allowed: float = figure("allowed", "times", "none", "The largest such ratio that counts as rounding.")
    sequence_ratio: float = figure("worst sequence", "times", "lower", "Mean over the positions of the worst sequence.")
    sequence_allowed: float = figure("allowed to it", "times", "none", "The same for one sequence of its length.")
    sequence: int = figure("worst sequence", "index", "none", "Place in the list of prompts.")
    worst_ratio: float = figure("worst position", "times", "lower", "At the worst position of any sequence.")
    worst_allowed: float = figure("allowed to it", "times", "none", "The largest ratio allowed to one position.")
    second_ratio: float = figure("second worst position", "times", "lower", "At the second worst of any sequence.")
    second_allowed: float = figure("allowed to it", "times", "none", "The largest ratio allowed to the second worst.")
    worst_position: int = figure("worst position", "index", "none", "Its place in the answer.")
    worst_sequence: int = figure("worst position's sequence", "index", "none", "Place in the list of prompts.")


class Rescore(Part):
    """Decoding's own log-probabilities against those of one pass over prompt and answer, and what rounding makes.

    The difference at a position is the log of the probability ratio: re-scored less decoded. `k1` is the mean of
    -difference and `k3` that of exp(difference) - 1 - difference (John Schulman, "Approximating KL Divergence", 2020,
    http://joschu.net/blog/kl-approx.html). Where tokens were drawn from the decode's distribution, both estimate the
    divergence KL(decode, re-score) per token in nats; along a greedy path they only describe it. `noise_*` are the
    same figures for two single passes that sum in different orders, measured here: the order that differs most.
    """

    WHY_NULL = MappingProxyType(
        {
            "verdict": "not judged, or neither equality nor a fault: its detail says which",
            **dict.fromkeys(
                ("drift_per_1000", "drift_low", "drift_high"),
                "a slope needs three positions, and two places of an answer",
            ),
            "first_beyond": "no single position differs by more than rounding explains",
            "first_beyond_sequence": "no single position differs by more than rounding explains",
            "k3": "a ratio is too large for a number",
            "*": "not judged: its detail says why",
        }
    )

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    verdict: AgreementVerdict | None
    detail: str
    advice: str = ""
    differs_by: str = ""  # the cause of a difference that is known and meant: "quantised cache"
    sequences: int = figure("sequences", "count", "none", "Texts that were scored again.")
    positions: int = figure("positions", "count", "none", "Tokens whose log-probabilities are compared.")
    mean_abs_difference: float | None = figure(
        "mean difference", "nats", "lower", "Mean absolute difference of the two log-probabilities."
    )
    max_abs_difference: float | None = figure(
        "largest difference", "nats", "lower", "Largest absolute difference of the two log-probabilities."
    )
    k1: float | None = figure(
        "KL, estimator k1", "nats", "none", "Mean of decoded less re-scored log-probability; may be negative."
    )
    k3: float | None = figure(
        "KL, estimator k3", "nats", "lower", "Mean of exp(d) - 1 - d, d the re-scored less the decoded log-probability."
    )
    share_over: float | None = figure(
        "ratio beyond 1.2",
        "ratio",
        "lower",
        "Share of positions whose probability ratio, re-scored over decoded, is above 1.2 or below 1 / 1.2.",
    )
    drift_per_1000: float | None = figure(
        "drift over 1,000 tokens",
        "nats",
        "none",
        "By how much the absolute difference grows over 1,000 positions of the answer (least squares).",
    )
    drift_low: float | None = figure(
        "drift, lower end", "nats", "none", "Of its 95 % interval, which allows for unequal errors (HC3, Student's t)."
    )
    drift_high: float | None = figure("drift, upper end", "nats", "none", "Of its 95 % interval.")
    noise_mean_abs: float | None = figure(
        "rounding",
        "nats",
        "lower",
        "Mean absolute difference that another order of summing makes, the largest of `ways`.",
    )
    noise_k3: float | None = figure(
        "rounding, k3", "nats", "lower", "The same estimator between two orders of summing."
    )
    noise_share_over: float | None = figure(
        "rounding, ratio beyond 1.2", "ratio", "lower", "The same share between two orders of summing."
    )
    first_beyond: int | None = figure(
        "first position beyond rounding", "index", "higher", "The earliest whose difference alone is too large."
    )
    first_beyond_sequence: int | None = figure("its sequence", "index", "none", "Place in the list of prompts.")
    error: RescoreError | None = None
    ways: tuple[RescoreWay, ...] = ()
    by_position: tuple[RescorePoint, ...] = ()
    differences: tuple[tuple[float, ...], ...] = figure(
        "differences", "nats", "none", "Re-scored less decoded log-probability, a list per sequence.", default=()
    )
