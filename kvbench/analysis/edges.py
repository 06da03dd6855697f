"""The edges that a run has found, out of its tries."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.plan import Plan
from kvbench.records.part import shared
from kvbench.records.run_record import Check
from kvbench.records.samples import RunSamples
from kvbench.records.scaling import Frontier, FrontierEdge, FrontierTry, Tried

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
