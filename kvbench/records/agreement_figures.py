"""How far the logits of two ways of decoding are apart, and whether the two compute the same."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from kvbench.records.part import Part, SeriesPoint, figure

AgreementVerdict = Literal["IDENTICAL", "EQUAL_WITHIN_ROUNDING", "MISMATCH"]


class AgreementStep(SeriesPoint):
    """One step of a common token path: the candidate's logits against the baseline's, the worst over the rows.

    `flips` counts rows whose likeliest token differs; `top2_margin` is the baseline's lead of its best logit over its
    second best, the smallest over the rows.
    """

    WHY_NULL = MappingProxyType({"*": "the logits of such a step are not finite numbers"})

    step: int = figure("new token", "index", "none", "Index of the new token; 0 is the prefill's.")
    batch: int = figure("batch", "index", "none", "Place of the batch in the run's order.", default=0)
    max_abs_logit_diff: float | None = figure(
        "largest difference", "logits", "lower", "Largest absolute difference of two logits."
    )
    max_rel_logit_diff: float | None = figure(
        "largest relative difference",
        "1",
        "lower",
        "Largest difference of two logits over the largest logit of the path.",
    )
    kl: float | None = figure(
        "KL divergence", "nats", "lower", "Largest divergence of the two distributions of the next token."
    )
    flips: int = figure("other likeliest tokens", "count", "lower", "Rows in which the likeliest token is another one.")
    top2_margin: float | None = figure(
        "lead", "logits", "none", "The baseline's best logit less its second best, the smallest over the rows."
    )
    error_ratio: float | None = figure(
        "error over rounding's",
        "times",
        "lower",
        "Root mean square of the arm's error over that of rounding, the largest over the rows.",
        default=None,
    )


class NoiseWay(Part):
    """The baseline held against itself in another order of summing; `skipped` says why one could not be tried."""

    WHY_NULL = MappingProxyType({"*": "this order of summing could not be tried, see skipped"})

    way: str
    noise_rel: float | None = figure(
        "rounding, relative", "1", "lower", "The baseline's own difference over the largest logit of the path."
    )
    skipped: str = ""


class ErrorFigures(Part):
    """How large an arm's error is, in multiples of the error that rounding makes at the same steps and rows.

    An error is the root mean square, over the vocabulary, of the logits' difference from a reference: the same model
    recomputed in the type `reference`, or, where that is empty, the first arm itself. Rounding's own error is that of
    plain recompute, in the usual order of summing and in others. Errors of many steps and rows are put together as the
    geometric mean of their ratios, which one unlucky step does not move.
    """

    WHY_NULL = MappingProxyType({"first_arm_ratio": "the first arm is itself what the others are held against"})

    reference: str
    ratio: float = figure("error over rounding's", "times", "lower", "Over all steps, rows and batches compared.")
    samples: int = figure("samples", "count", "none", "Steps times rows, over all batches.")
    first_arm_ratio: float | None = figure("first arm's", "times", "lower", "The same of the first arm.")
    sequence_ratio: float = figure("worst sequence", "times", "lower", "Over the steps of the worst sequence.")
    sequence: int = figure("worst sequence", "index", "none", "Place in the list of prompts.")
    sequence_samples: int = figure("steps of the worst sequence", "count", "none", "Compared steps of it.")
    step_ratio: float = figure("worst step", "times", "lower", "At the worst step of any sequence.")
    second_ratio: float = figure("second worst step", "times", "lower", "At the second worst step of any sequence.")
    step: int = figure("worst step", "index", "none", "Index of its new token.")
    step_sequence: int = figure("worst step's sequence", "index", "none", "Place in the list of prompts.")
    larger_steps: int = figure(
        "steps with a larger error", "count", "lower", "Of the samples, those whose error is larger than rounding's."
    )
    # Whether routers chose the experts of this arm or of the first one, since an engine cannot be told which to take.
    free_experts: bool = False


class RoutingFigures(Part):
    """Where the routers of a mixture of experts, at near-ties, would have chosen other experts than the reference's.

    Everything compared computes with the experts that the reference chose, so that this is not taken for a fault.
    """

    choices: int = figure("choices", "count", "none", "Layers times steps and rows at which a router was looked at.")
    flips: int = figure("other choices", "count", "lower", "Of them, those where the arm's own choice was another.")
    step: int = figure("first of them", "index", "higher", "New token at which an arm's router first chose others.")
    layer: int = figure("its layer", "index", "none", "Layer of that router.")
    sequence: int = figure("its sequence", "index", "none", "Place in the list of prompts.")


class CacheDifference(Part):
    """The first layer whose cache differs beyond rounding from the one that a single pass over all tokens builds."""

    WHY_NULL = MappingProxyType({"*": "this state has no tokens side by side"})

    layer: int = figure("layer", "index", "none", "Of the cache.")
    part: str  # "keys", "values", "keys and values", or the name of another tensor
    first_position: int | None = figure("first position", "index", "none", "First token that differs.", default=None)
    last_position: int | None = figure("last position", "index", "none", "Last token that differs.", default=None)
    positions: int | None = figure("positions", "count", "none", "Tokens that differ.", default=None)
    tokens: int | None = figure("tokens", "count", "none", "Tokens that there are.", default=None)
    held: str  # the type in which they are held
    kind: str  # what they look like, in words; empty where they look like nothing known


FaultKind = Literal["step", "cache", "rotary_length", "looks_ahead", "window", "random", "unseen"]


class FaultPlace(Part):
    """Where a candidate first differs by more than rounding, and what was seen there.

    `kind` is `random` where the arm does not compute the same twice; `rotary_length` and `looks_ahead` where one more
    token changes the keys or values of those before it, in layer 0 or later, so that no cache can hold them; `cache`
    where what the cache holds is not what a single pass builds; `window` where a cache that keeps all tokens agrees;
    `step` where what is kept is right and the step itself computes otherwise; `unseen` where the model could not be
    looked into there, for the reason in `unseen`.
    """

    WHY_NULL = MappingProxyType(
        {
            "cache": "what the cache holds is right, or could not be looked at",
            "window": "no window is to blame",
            "chunk": "the prompt went in one pass, or the difference begins after it",
        }
    )

    sequence: int = figure("prompt", "index", "none", "Place in the list of prompts.")
    step: int = figure("new token", "index", "none", "The first one that differs; 0 is the prefill's.")
    context: int = figure("context", "tokens", "none", "Tokens behind it, without padding.")
    only_padded_rows: bool
    edge: str  # what lies there, in words: a window, a bucket, a chunk; empty where nothing does
    every_step: bool
    kind: FaultKind
    chunk: int | None = figure("chunk", "tokens", "none", "In which the prompt was handed over.", default=None)
    cache: CacheDifference | None = None
    window: int | None = figure("window", "tokens", "none", "Of the cache's shortest sliding layer.", default=None)
    unseen: str = ""


class RoundTripFigures(Part):
    """What a `RoundTrip` rests on, as the worker measured it."""

    WHY_NULL = MappingProxyType({"*": "the logits, or what came back, are not finite numbers"})

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    cache: str
    max_rel_logit_diff: float | None = figure(
        "what remains",
        "1",
        "lower",
        "Largest relative difference of logits from a plain cache behind the same quantiser.",
    )
    worst_steps: float | None = figure(
        "quantiser's error",
        "1",
        "lower",
        "Largest error, in steps of a grid over the whole range of a layer's keys or values.",
    )


class RoundTrip(RoundTripFigures):
    """An arm with a quantised cache, held against a plain cache whose keys and values went through its quantiser.

    `max_rel_logit_diff` is what remains between the two, `worst_steps` the quantiser's largest error in steps of a grid
    over the whole range of a layer's keys or values. `explains` says whether both are small enough to put the arm's
    difference down to its quantiser.
    """

    explains: bool


@dataclass(frozen=True)
class AgreementFigures:
    """Teacher-forced comparison of a candidate arm with the baseline on one token path: what `Agreement` rests on.

    Differences are over the last position's logits of every step compared, over all batches. `noise_rel` is the
    baseline's own difference when the same prefixes are summed in other orders, the largest of `noise_ways`.
    """

    candidate_arm: int
    steps: int
    max_abs_logit_diff: float | None  # None, here and below: not a finite number
    max_rel_logit_diff: float | None
    kl: float | None
    argmax_flips: int
    noise_rel: float | None
    noise_abs: float | None = None
    error: ErrorFigures | None = None  # None: rounding's own error could not be measured in this type
    batches: int = 1
    first_divergence: int | None = None  # the first new token that differs, of the sequence that decides
    divergence_sequence: int | None = None
    top2_margin: float | None = None  # baseline's, at that token
    # By how much, over the largest logit, a free run contradicts there what the same arm computes on the common path.
    unexplained_rel: float | None = None
    drawn_apart: float = 0.0  # the largest chance that one draw tips between the two arms
    dtype: str = "float32"
    sampled: bool = False  # whether the free runs draw their tokens
    penalised: bool = False  # whether they choose by scores other than the logits
    by_step: tuple[AgreementStep, ...] = ()
    noise_ways: tuple[NoiseWay, ...] = ()
    routing: RoutingFigures | None = None  # None: no router of either arm chose otherwise
    round_trips: tuple[RoundTripFigures, ...] = ()  # of the two arms those whose caches are quantised
    compared_tokens: int = 0  # steps times rows
    without_reference: str = ""  # why there is no model in a wider type to hold the arms against
    beyond: tuple[str, ...] = ()  # windows and the like that lie behind the run's longest context, in words
    place: FaultPlace | None = None  # None: nothing differs by more than rounding, or it could not be looked at
    not_finite: tuple[int, ...] = ()  # arms some of whose logits are infinite or no numbers


class Agreement(Part):
    """Whether a candidate computes what the baseline computes, on the same token path.

    Relative differences are over the largest logit of the path. `noise_*` is what rounding alone does to the baseline,
    measured in this run, the largest of `noise_ways`; `allowed_rel` the largest relative difference that counts as
    rounding. `first_divergence` is the index of the first new token at which the free runs differ, in the prompt
    `divergence_sequence`, and `top2_margin` the baseline's lead of its best logit there; of several prompts it is the
    one whose lead is largest, which rounding explains least. A quantised cache that differs by its quantisation and
    nothing else has no verdict, since it is neither equal nor wrong: `differs_by` names it.
    """

    WHY_NULL = MappingProxyType(
        {
            **dict.fromkeys(
                ("first_divergence", "divergence_sequence", "top2_margin"),
                "free runs give the same tokens, or were not compared",
            ),
            "verdict": (
                "agreement was not checked, not judged, or is neither equality nor a fault: its detail says which"
            ),
            "place": "nothing differs by more than rounding, or its place could not be looked at",
            "routing": "no router chose otherwise than the reference's, or there is none",
            "error": "rounding's own error was not measured: its detail says what the verdict rests on",
            "*": "agreement was not checked, or not judged: its detail says why",
        }
    )

    verdict: AgreementVerdict | None
    first_divergence: int | None = figure(
        "first divergence", "index", "higher", "Of the first new token at which the free runs differ."
    )
    top2_margin: float | None = figure(
        "lead at the divergence", "logits", "lower", "The baseline's best logit less its second best there."
    )
    max_abs_logit_diff: float | None = figure(
        "largest difference", "logits", "lower", "Largest absolute difference of two logits."
    )
    kl: float | None = figure(
        "KL divergence", "nats", "lower", "Largest divergence of the two distributions of the next token."
    )
    noise_abs: float | None = figure(
        "rounding", "logits", "lower", "The baseline's own largest difference in other orders of summing."
    )
    steps: int = figure("steps compared", "count", "none", "Of the common token path.")
    detail: str
    max_rel_logit_diff: float | None = figure(
        "largest relative difference",
        "1",
        "lower",
        "Largest difference of two logits over the largest logit of the path.",
        default=None,
    )
    noise_rel: float | None = figure(
        "rounding, relative", "1", "lower", "The same over the largest logit of the path.", default=None
    )
    allowed_rel: float | None = figure(
        "allowed", "1", "none", "The largest relative difference that counts as rounding.", default=None
    )
    argmax_flips: int | None = figure(
        "other likeliest tokens", "count", "lower", "Rows in which the likeliest token is another one.", default=None
    )
    by_step: tuple[AgreementStep, ...] = ()  # thinned where there are more than a few hundred
    noise_ways: tuple[NoiseWay, ...] = ()
    divergence_sequence: int | None = figure(
        "prompt of the divergence", "index", "none", "Place in the list of prompts.", default=None
    )
    error: ErrorFigures | None = None
    routing: RoutingFigures | None = None
    place: FaultPlace | None = None
    cause: str = ""  # of a MISMATCH: where it begins and what may be behind it, in words
    batches: int | None = figure("batches compared", "count", "none", "Of the run's.", default=None)
    differs_by: str = ""  # the cause of a difference that is known, beyond rounding and meant: "quantised cache"
    round_trips: tuple[RoundTrip, ...] = ()


class ReferenceDistance(Part):
    """How far one arm's logits are from recompute by the same model in a wider type, on the same token path.

    Weights and matrix products are in that type. What an architecture casts to float32 by itself stays so: most norms,
    the rotary tables and the softmax of eager attention, which bounds what a float64 reference can tell.
    """

    WHY_NULL = MappingProxyType({"*": "the logits are not finite numbers"})

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    dtype: str  # of the reference
    device: str = ""  # where the reference was computed
    steps: int = figure("steps compared", "count", "none", "Of the common token path.")
    max_abs_logit_diff: float | None = figure(
        "largest difference", "logits", "lower", "Largest absolute difference of two logits."
    )
    max_rel_logit_diff: float | None = figure(
        "largest relative difference",
        "1",
        "lower",
        "Largest difference of two logits over the largest logit of the path.",
    )
    kl: float | None = figure(
        "KL divergence", "nats", "lower", "Largest divergence of the two distributions of the next token."
    )
    argmax_flips: int = figure(
        "other likeliest tokens", "count", "lower", "Rows in which the likeliest token is another one."
    )
