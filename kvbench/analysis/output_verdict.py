"""Does a candidate arm compute what the baseline computes? The verdict, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.analysis.estimates import thinned
from kvbench.analysis.fault_cause import fault_cause
from kvbench.records.agreement_figures import (
    Agreement,
    AgreementFigures,
    AgreementStep,
    AgreementVerdict,
    ErrorFigures,
    RoundTrip,
    RoutingFigures,
)
from kvbench.records.part import shared
from kvbench.rounding_limits import allowed_at_worst, allowed_ratio, outer_gate, resolution

# Where rounding's own error is not measured: a candidate may differ by more than the other orders of summing that were
# tried, since a cached step runs matrix-vector kernels where the baseline runs matrix-matrix ones, but not by several
# times as much.
NOISE_MARGIN = 5.0
BEYOND_THE_GATE = 1.5  # times what was measured, where that already reaches the outer gate

# A quantiser that rounds to the nearest of its codes is off by half a step of a group's range; scales and zeros that
# are rounded to bfloat16 add one to 255 codes. More is not quantisation.
MOST_STEPS = 2.0
QUANTISED_CACHE = "quantised cache"

# Draws may tip where the two distributions differ; with a smaller chance than this over a whole run they did not.
LEAST_CHANCE = 1e-4

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
    by_step = _by_step(figures)
    if figures.max_rel_logit_diff is None or (figures.error is None and figures.noise_rel is None):
        seen = {"steps": figures.steps, "by_step": by_step, "noise_ways": figures.noise_ways}
        return NOT_CHECKED.model_copy(update={**seen, "detail": _not_judged(figures)})
    faults = tuple(_faults(figures))
    verdict: AgreementVerdict | None
    verdict = "MISMATCH" if faults else "EQUAL_WITHIN_ROUNDING"
    if not faults and not figures.max_rel_logit_diff and figures.first_divergence is None:
        verdict = "IDENTICAL"
    round_trips, detail, differs_by = _round_trips(figures), _detail(figures, faults), ""
    if faults and _explained(figures, round_trips):
        verdict, detail, differs_by = None, _loss(figures, round_trips), QUANTISED_CACHE
    cause = fault_cause(figures.place) if verdict == "MISMATCH" and figures.place is not None else ""
    derived = {"by_step": by_step, "noise_ways": figures.noise_ways, "round_trips": round_trips}
    return Agreement(
        **(shared(Agreement, figures) | derived),
        verdict=verdict,
        detail=f"{detail}. {cause}" if cause else detail,
        cause=cause,
        differs_by=differs_by,
        allowed_rel=_allowed(figures),
    )


def _allowed(figures: AgreementFigures) -> float:
    """The largest relative logit difference that would have counted as rounding.

    Where errors decide, it is the difference that was seen, over how far its error went towards what is allowed.
    """
    noise, seen = figures.noise_rel or 0.0, figures.max_rel_logit_diff or 0.0
    error = figures.error
    if error is None:
        return tolerance(noise, figures.dtype)
    used = max(
        error.ratio / _limit(error, error.samples),
        error.sequence_ratio / _limit(error, error.sequence_samples),
        *(() if error.free_experts else _single_steps(error)),
    )
    return seen / used if seen and used else tolerance(noise, figures.dtype)


def tolerance(noise_rel: float, dtype: str) -> float:
    """The largest relative logit difference that counts as rounding where only single differences are known."""
    allowed = NOISE_MARGIN * max(noise_rel, resolution(dtype))
    return min(allowed, max(outer_gate(dtype), BEYOND_THE_GATE * noise_rel))


def _faults(figures: AgreementFigures) -> list[str]:
    """What rounding does not explain, in words; nothing where the arm computes the same."""
    found = []
    if figures.error is not None:
        found += _too_far(figures.error)
    elif (figures.max_rel_logit_diff or 0.0) > (allowed := tolerance(figures.noise_rel or 0.0, figures.dtype)):
        found.append(f"a difference of {figures.max_rel_logit_diff:.1e}, where rounding explains {allowed:.1e}")
    if figures.first_divergence is not None and _contradicts(figures):
        found.append("its free run computes something else than its own run on the common path")
    return found


def _limit(error: ErrorFigures, samples: int) -> float:
    return allowed_ratio(samples, measured=bool(error.reference))


def _too_far(error: ErrorFigures) -> list[str]:
    """The widest of what is larger than rounding: everything, one sequence, or some steps."""
    if error.ratio > _limit(error, error.samples):
        return [f"its error is {_times(error.ratio)} rounding's own over all {error.samples} samples"]
    if error.sequence_ratio > _limit(error, error.sequence_samples):
        return [f"its error is {_times(error.sequence_ratio)} rounding's own in prompt {error.sequence + 1}"]
    # Where a router took other experts, a step is wrong by far more than rounding, in a sound arm too.
    if not error.free_experts and max(_single_steps(error)) > 1:
        return [
            f"its error is {_times(error.step_ratio)} rounding's own at new token {error.step} of prompt"
            f" {error.step_sequence + 1}, and {_times(error.second_ratio)} at the second worst"
        ]
    if error.first_arm_ratio is not None and error.first_arm_ratio > _limit(error, error.samples):
        first = _times(error.first_arm_ratio)
        return [f"the error of the first arm, which it is held against, is {first} rounding's"]
    return []


def _single_steps(error: ErrorFigures) -> tuple[float, float]:
    """The errors of the two worst steps over what is allowed to each."""
    return error.step_ratio / _worst(error), error.second_ratio / _worst(error, second=True)


def _worst(error: ErrorFigures, *, second: bool = False) -> float:
    return allowed_at_worst(second=second, measured=bool(error.reference))


def _contradicts(figures: AgreementFigures) -> bool:
    """Whether the free runs part for another reason than rounding.

    Up to there both have the same tokens, so each must choose what it chose on the common path, but for a near-tie. A
    draw depends on the distribution alone, which is as far apart as rounding makes it.
    """
    if figures.sampled:
        # A run that is done again may sum in another order, and its draws are as far apart as the type can tell.
        apart = max(figures.drawn_apart, resolution(figures.dtype))
        return apart * max(1, figures.first_divergence or 0) < LEAST_CHANCE
    if figures.penalised or figures.unexplained_rel is None:
        return False
    return figures.unexplained_rel > tolerance(figures.noise_rel or 0.0, figures.dtype)


def _round_trips(figures: AgreementFigures) -> tuple[RoundTrip, ...]:
    limit = tolerance(figures.noise_rel or 0.0, figures.dtype)
    return tuple(
        RoundTrip(
            **shared(RoundTrip, each),
            explains=each.max_rel_logit_diff is not None
            and each.max_rel_logit_diff <= limit
            and each.worst_steps is not None
            and each.worst_steps <= MOST_STEPS,
        )
        for each in figures.round_trips
    )


def _explained(figures: AgreementFigures, round_trips: Sequence[RoundTrip]) -> bool:
    """Whether every quantised arm does what its quantiser does, and the free runs no more than the common path."""
    stale = figures.first_divergence is not None and _contradicts(figures)
    return bool(round_trips) and all(each.explains for each in round_trips) and not stale


def _loss(figures: AgreementFigures, round_trips: Sequence[RoundTrip]) -> str:
    kinds = " and ".join(dict.fromkeys(each.cache for each in round_trips))
    remaining = max(each.max_rel_logit_diff or 0.0 for each in round_trips)
    limit = tolerance(figures.noise_rel or 0.0, figures.dtype)
    parted = "give the same tokens"
    if figures.first_divergence is not None:
        parted = f"part at new token {figures.first_divergence}"
    return (
        f"differs by the cache's own quantisation ({kinds}): {figures.max_rel_logit_diff or 0.0:.2%} of the largest"
        f" logit, {figures.argmax_flips} of {figures.compared_tokens} tokens differ on one token path, free runs"
        f" {parted}; a plain cache with keys and values rounded alike is within {remaining:.1e} (rounding allows"
        f" {limit:.1e})"
    )


def _by_step(figures: AgreementFigures) -> tuple[AgreementStep, ...]:
    """A few hundred of them at most, but for every one that flips a token; the worst and the last always."""
    steps = figures.by_step
    apart = [step.max_abs_logit_diff for step in steps]
    worst = max(range(len(steps)), key=lambda index: apart[index] or 0.0, default=0)
    kept = [index for index, step in enumerate(steps) if step.flips or apart[index] is None or index == worst]
    return tuple(thinned(steps, kept))


def _not_judged(figures: AgreementFigures) -> str:
    if figures.not_finite:
        both = len(figures.not_finite) > 1
        whose = "both arms" if both else "the first arm alone" if figures.not_finite == (0,) else "this arm alone"
        remedy = "" if figures.dtype in ("float32", "float64") else "; try model.dtype=float32 or bfloat16"
        return f"not judged: logits of {whose} are not finite numbers{remedy}"
    reasons = "; ".join(f"{way.way}: {way.skipped}" for way in figures.noise_ways)
    return f"not judged: what rounding alone does could not be measured ({reasons})"


def _detail(figures: AgreementFigures, faults: Sequence[str]) -> str:
    over = f"over {figures.steps} steps" + (f" of {figures.batches} batches" if figures.batches > 1 else "")
    if figures.error is not None:
        text = f"{_measured(figures, figures.error)} {over} on one token path; largest relative logit difference"
        text += f" {figures.max_rel_logit_diff:.1e}"
    else:
        limit = tolerance(figures.noise_rel or 0.0, figures.dtype)
        text = (
            f"largest relative logit difference {figures.max_rel_logit_diff:.1e} {over} on one token path; rounding"
            f" alone {figures.noise_rel:.1e}{_largest_way(figures)}, allowed {limit:.1e}"
        )
        text += _without_reference(figures)
    if figures.routing is not None:
        text += _rerouted(figures.routing)
    if figures.argmax_flips:
        text += f"; the likeliest token differs {figures.argmax_flips} times"
    if figures.first_divergence is None:
        text += "; free runs give the same tokens"
    else:
        where = f"new token {figures.first_divergence}"
        if figures.divergence_sequence is not None:
            where += f" of prompt {figures.divergence_sequence + 1}"
        margin = (
            "" if figures.top2_margin is None else f" where the two best logits are {figures.top2_margin:.1e} apart"
        )
        text += f"; free runs part at {where}{margin}"
        text += "" if faults else f": {_tipped(figures)}"
    if figures.beyond:
        text += f"; not compared, since no context is as long: {', '.join(figures.beyond)}"
    return text + "".join(f"; {fault}" for fault in faults)


def _without_reference(figures: AgreementFigures) -> str:
    return f", since {figures.without_reference}" if figures.without_reference else ""


def _measured(figures: AgreementFigures, error: ErrorFigures) -> str:
    beside = (
        f"the same model in {error.reference}" if error.reference else f"the first arm{_without_reference(figures)}"
    )
    steps = f"at the two worst steps {_number(error.step_ratio)} and {_number(error.second_ratio)}, "
    if error.free_experts:
        steps += "which are not judged, since an engine cannot be told which experts to take"
    else:
        steps += f"allowed {_worst(error):.2g} and {_worst(error, second=True):.2g}"
    allowed = f"allowed {_limit(error, error.samples):.2f}"
    return f"error {_times(error.ratio)} rounding's own, {allowed}; {steps}; against {beside},"


def _rerouted(routing: RoutingFigures) -> str:
    return (
        f"; at near-ties its routers chose other experts {routing.flips} of {routing.choices} times (first at new token"
        f" {routing.step} of prompt {routing.sequence + 1}, layer {routing.layer}), and were given the reference's"
    )


def _times(ratio: float) -> str:
    return f"{_number(ratio)} times"


def _number(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"


def _largest_way(figures: AgreementFigures) -> str:
    tried = [way for way in figures.noise_ways if way.noise_rel is not None]
    if not tried:
        return ""
    largest = max(tried, key=lambda way: way.noise_rel or 0.0)
    return f" (the largest of {len(tried)} other orders of summing: {largest.way})"


def _tipped(figures: AgreementFigures) -> str:
    if figures.sampled:
        return "a draw that rounding tipped"
    return "a near-tie of the scores after the penalty" if figures.penalised else "a near-tie"
