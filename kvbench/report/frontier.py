"""What fits, in rows and in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from kvbench.printable import printable
from kvbench.records.frontier import FrontierEdge
from kvbench.records.schema import RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.formatting import UNKNOWN, format_value

TITLES = ("", "at", "predicted", "found", "error", "next tried", "search ended because")
WORDS = {"fits": "fits", "oom": "out of memory", "infeasible": "refused for its memory"}


@dataclass(frozen=True)
class EdgeRow:
    """One arm along one axis, as text, in the order of `TITLES`."""

    arm: str
    held: str
    predicted: str
    found: str
    error: str
    above: str
    detail: str


def frontier_rows(record: RunRecord) -> tuple[EdgeRow, ...]:
    """One row per edge."""
    if record.frontier is None:
        return ()
    names = arm_names(record)
    return tuple(
        EdgeRow(
            arm=f"{names[edge.arm]}, {edge.axis}",
            held=_held(edge),
            predicted=_count(edge.predicted),
            found=_count(edge.found),
            error=UNKNOWN if edge.error is None else f"{edge.error:+.1%}".replace("%", " %"),
            above=_count(edge.found_above),
            detail=printable(edge.detail),
        )
        for edge in record.frontier.edges
    )


def frontier_sentences(record: RunRecord) -> tuple[str, ...]:
    """What each edge is, the first arm's beside every other one's."""
    if record.frontier is None:
        return ()
    told = []
    by_axis: dict[str, list[FrontierEdge]] = {}
    for edge in record.frontier.edges:
        by_axis.setdefault(edge.axis, []).append(edge)
    for edges in by_axis.values():
        first = edges[0]
        told.append(f"{_opening(first)} {_fits(record, first)}.")
        told += [f"{_opening(edge)} {_fits(record, edge)}{_against(record, first, edge)}." for edge in edges[1:]]
    return tuple(told)


def frontier_limit(record: RunRecord) -> str:
    """The memory that the search had."""
    limit = record.frontier.limit_bytes if record.frontier else None
    return "without a limit of memory" if limit is None else f"within {format_value(limit, 'bytes')} of memory"


def try_line(arm: str, axis: str, size: int, outcome: str, peak_bytes: int | None) -> str:
    """One try, such as "cached, context 65,536: fits, 3.10 GiB"."""
    used = "" if peak_bytes is None else f", {format_value(peak_bytes, 'bytes')}"
    return f"{arm}, {axis} {size:,}: {WORDS.get(outcome, outcome)}{used}"


def _opening(edge: FrontierEdge) -> str:
    return f"At batch {edge.fixed:,}" if edge.axis == "context" else f"At {edge.fixed:,} tokens of context"


def _fits(record: RunRecord, edge: FrontierEdge) -> str:
    name = arm_names(record)[edge.arm]
    if edge.found is None:
        return f"{name}: {printable(edge.detail)}"
    unit = "tokens of context" if edge.axis == "context" else "sequences"
    # An edge of memory says it by itself; any other end has to be named.
    why = "" if edge.error is not None else f" ({printable(edge.detail)})"
    return f"{name} fits {edge.found:,} {unit}{why}"


def _against(record: RunRecord, first: FrontierEdge, edge: FrontierEdge) -> str:
    """The share that one arm costs against the first; nothing where an end was not one of memory."""
    if first.error is None or edge.error is None or not first.found or not edge.found:
        return ""
    change = edge.found / first.found - 1
    what = "context" if edge.axis == "context" else "batch"
    other = arm_names(record)[first.arm]
    if abs(change) < 0.005:
        return f", as {other} does"
    costs_cache = change < 0 and record.arms[edge.arm].cache != "none" and record.arms[first.arm].cache == "none"
    if costs_cache:
        return f": the cache costs {-change:.0%} of the {what}".replace("%", " %")
    return f", {abs(change):.0%} {'less' if change < 0 else 'more'} than {other}".replace("%", " %")


def _held(edge: FrontierEdge) -> str:
    return f"batch {edge.fixed:,}" if edge.axis == "context" else f"{edge.fixed:,} tokens"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
