"""What depends on the length: how a step grows with the context, and the largest sizes that fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kvbench.analysis.comparison import RATIO
from kvbench.analysis.estimates import estimate, interval_fields
from kvbench.analysis.laws import Fit, break_even, fit_law, floats
from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.plan import Plan
from kvbench.records.part import Estimate, Speedup, shared
from kvbench.records.run_record import Check
from kvbench.records.samples import RunSamples
from kvbench.records.scaling import (
    DecodeCheck,
    Frontier,
    FrontierEdge,
    FrontierTry,
    Growth,
    GrowthPoint,
    Law,
    Order,
    Total,
    Tried,
)
from kvbench.records.timings import RealDecode
from kvbench.statistics import mean_interval, ratio_interval

# The edges that a run has found, out of its tries.


CUT_SHORT = "the run ended before this search did"
FOR_MEMORY = ("oom", "infeasible")  # ends of a try that a prediction of memory can be held against
TIMES_NOTHING = "a frontier run tries sizes and times nothing"
# Parts of a record that are about what was timed.
TIMED = ("/arms/", "/shapes", "/stopping", "/comparison", "/flops_check", "/device_during", "/host_checks")


def frontier(plan: Plan, samples: RunSamples) -> Frontier | None:
    """Every edge that at least one try was made for; None for any other run, or before there was a model."""
    if plan.config.frontier.axes is None or samples.capacity is None:
        return None
    searches: dict[tuple[int, str], list[Tried]] = {}
    for tried in samples.tried:
        searches.setdefault((tried.arm, tried.axis), []).append(tried)
    ends = {(end.arm, end.axis): end.detail for end in samples.search_ends}
    return Frontier(
        limit_bytes=samples.capacity.limit_bytes,
        edges=tuple(_edge(tries, ends.get(key, CUT_SHORT)) for key, tries in searches.items()),
    )


def _edge(tries: Sequence[Tried], detail: str) -> FrontierEdge:
    first = tries[0]
    found = max((each.size for each in tries if each.outcome == "fits"), default=None)
    next_tried = min((each for each in tries if each.outcome != "fits"), key=lambda each: each.size, default=None)
    judged = found is not None and next_tried is not None and next_tried.outcome in FOR_MEMORY
    return FrontierEdge(
        arm=first.arm,
        axis=first.axis,
        fixed=first.fixed,
        predicted=first.predicted,
        found=found,
        found_above=next_tried.size if next_tried else None,
        error=(first.predicted - found) / found if judged and found and first.predicted is not None else None,
        tries=tuple(FrontierTry(**shared(FrontierTry, each)) for each in tries),
        detail=detail,
    ).because(
        {
            "found": detail,
            "found_above": detail,
            "error": "there is no prediction" if first.predicted is None else f"no edge of memory was met: {detail}",
        }
    )


def frontier_checks(plan: Plan, samples: RunSamples) -> tuple[Check, ...]:
    """Whether every search that was asked for came to an edge or to a limit."""
    asked = len(plan.config.frontier.axes or ()) * len(plan.arms)
    cut = [end for end in samples.search_ends if not end.closed]
    passed = not cut and len(samples.search_ends) == asked
    return (
        Check(
            name="frontier",
            passed=passed,
            detail=f"{len(samples.search_ends) - len(cut)} of {asked} searches came to an edge or a limit",
            advice="" if passed else "set frontier.max_context or frontier.max_batch, or a coarser frontier.resolution",
        ),
    )


# How a step grows: the law of every arm, where two of them cross, and what steps add up to.


MEAN = "mean over blocks, Student-t interval"
TOTALS = (16, 64, 256, 1024, 4096)  # new tokens
FARTHEST = 4  # times the longest length, up to which a total is told
VISIBLE = 0.02  # of the longest step: a smaller term changes nothing that anyone acts upon
BENT = 0.1  # of the longest step: a term that takes off more than this stands for a bend, not for growth
MISSED = 0.05  # of a step: a law that is off by more is not the law
LEAST_FOR_LAW = 2
FEW_BLOCKS = "an interval needs at least 2 blocks, that of a median 6"
ONE_ABOVE = "one length lies above the knee: two would tell a line from a square"


def growth(plan: Plan, samples: RunSamples) -> Growth | None:
    """What a run over several lengths has measured; None for the reason of `growth_reason`."""
    prepared, blocks = samples.prepared, samples.blocks
    if prepared is None or growth_reason(plan, samples) is not None:
        return None
    prompts = [max(len(prepared.prompts[index]["token_ids"]) for index in members) for members in prepared.batches]
    laws = [fit_law(blocks, arm, prompts) for arm in range(len(plan.arms))]
    shortest, longest = float(min(laws[0].lengths)), float(max(laws[0].lengths))
    labels = [arm.label for arm in plan.arms]
    # A law that misses its points says nothing beyond them, and one that fits not much.
    reach = FARTHEST * longest if max(law.missed() for law in laws) <= RELEVANT_WITHIN_A_RUN else longest
    return Growth(
        shortest=shortest,
        longest=longest,
        points=tuple(
            GrowthPoint(arm=law.arm, context_length=float(length), itl_s=_at_point(law, index))
            for law in laws
            for index, length in enumerate(law.lengths)
        ),
        laws=tuple(map(_law, laws)),
        totals=_totals(laws, min(prompts), longest, reach),
        break_evens=tuple(break_even(laws[0], law, (labels[0], labels[law.arm])) for law in laws[1:]),
        decodes=tuple(
            check
            for each in samples.real_decodes
            if each.first_step_s and (check := _checked(laws[each.arm], each)) is not None
        ),
    )


def _totals(laws: Sequence[Fit], prompt: int, longest: float, reach: float) -> tuple[Total, ...]:
    """Arm by arm, of the counts at which every law can be asked: a total that may be nothing is none."""
    told: dict[int, list[Estimate]] = {}
    for count in TOTALS:
        seconds = [_mean(law.total(prompt, count)) for law in laws]
        if prompt + count - 1 <= reach and all(each.ci_low is None or each.ci_low > 0 for each in seconds):
            told[count] = seconds
    return tuple(
        Total(arm=law.arm, new_tokens=count, seconds=seconds[place], beyond_range=prompt + count - 1 > longest)
        for place, law in enumerate(laws)
        for count, seconds in told.items()
    )


def growth_reason(plan: Plan, samples: RunSamples) -> str | None:
    """Why a run has no growth; None when it has one."""
    if plan.config.scaling.lengths is None:
        return "context lengths were not varied within this run: experiment=scaling does"
    if len(samples.blocks) < LEAST_FOR_LAW:
        return f"a law with intervals needs at least {LEAST_FOR_LAW} blocks"
    timed = [visit for block in samples.blocks for visit in block.visits if visit.lane == "throughput"]
    if not all(visit.steps and visit.decode_s > 0 for visit in timed):
        return "a visit has no decode step, or took no time"
    return None


def _at_point(fit: Fit, index: int) -> Estimate:
    few_blocks = dict.fromkeys(("ci_low", "ci_high", "level"), FEW_BLOCKS)
    return estimate(floats(fit.times[:, index])).because(few_blocks)


def _law(fit: Fit) -> Law:
    launch, linear, quadratic = (_mean(floats(column)) for column in fit.coefficients.T)
    ratio = ratio_interval(floats(fit.times[:, -1] / fit.times[:, 0]))
    span = math.log(fit.lengths[-1] / fit.lengths[0])
    mean_times = fit.times.mean(axis=0)
    predicted = fit.at_points().mean(axis=0)
    if fit.form == "max" and not fit.coefficients[:, 2].any():
        nothing = dict.fromkeys(("value", "ci_low", "ci_high", "level"))
        quadratic = quadratic.model_copy(update=nothing).because({"value": ONE_ABOVE})
    return Law(
        arm=fit.arm,
        form=fit.form,
        launch_s=launch,
        per_token_s=linear,
        per_token2_s=quadratic,
        growth=Speedup(estimator=RATIO, **interval_fields(ratio), n_blocks=len(fit.times)),
        exponent=math.log(ratio.value) / span if span else None,
        order=_order(fit, linear, quadratic),
        worst_error=float(np.abs(predicted / mean_times - 1).max()),
    )


def _order(fit: Fit, linear: Estimate, quadratic: Estimate) -> Order:
    longest, step_s = float(fit.lengths[-1]), float(fit.times[:, -1].mean())
    shares = {"linear": (linear, longest / step_s), "quadratic": (quadratic, longest**2 / step_s)}
    grown = ratio_interval(floats(fit.times[:, -1] / fit.times[:, 0]))
    if fit.missed() <= MISSED and grown.low <= 1 <= grown.high:
        return "constant"  # in noise, two terms that cancel each other may both be clear
    if fit.missed() > MISSED or any(_takes_off(each, share) for each, share in shares.values()):
        return "irregular"
    if _counts(*shares["quadratic"]):
        return "quadratic"
    if _counts(*shares["linear"]):
        return "linear"
    if grown.high < 1 - VISIBLE:
        return "irregular"  # faster at the longest length
    # Over few lengths L and L² are so alike that noise hides which of them grows, not that one does.
    return "growing" if grown.low > 1 + VISIBLE else "constant"


def _counts(coefficient: Estimate, share: float) -> bool:
    """Whether a term grows for certain, and visibly."""
    value, low = coefficient.value, coefficient.ci_low
    return value is not None and low is not None and low > 0 and value * share > VISIBLE


def _takes_off(coefficient: Estimate, share: float) -> bool:
    value, high = coefficient.value, coefficient.ci_high
    return value is not None and high is not None and high < 0 and -value * share > BENT


def _checked(fit: Fit, decode: RealDecode) -> DecodeCheck | None:
    new_tokens = len(decode.second_step_s) + 1
    predicted = float(np.mean(fit.total(decode.prompt_tokens, new_tokens)))
    if predicted <= 0:  # asked far beyond its lengths
        return None
    return DecodeCheck(
        **shared(DecodeCheck, decode),
        new_tokens=new_tokens,
        first_s=sum(decode.first_step_s),
        second_s=sum(decode.second_step_s),
        predicted_s=predicted,
        error=sum(decode.second_step_s) / predicted - 1,
    )


def _mean(samples: Sequence[float]) -> Estimate:
    return Estimate(estimator=MEAN, **interval_fields(mean_interval(samples)), n=len(samples))
