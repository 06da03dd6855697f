"""What fits, in rows and in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from kvbench.arm import arm_names
from kvbench.capabilities import NO_CACHE
from kvbench.printable import printable
from kvbench.records.run_record import RunRecord
from kvbench.records.scaling import FrontierEdge
from kvbench.report.formatting import UNKNOWN, format_value

TITLES = ("", "at", "predicted", "found", "error", "next that failed")
UNITS = {"context": "tokens of context", "batch": "sequences"}
OF_MEMORY = ("oom", "infeasible")
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


def frontier_rows(record: RunRecord) -> tuple[EdgeRow, ...]:
    """One row per edge."""
    if record.frontier is None:
        return ()
    names = arm_names(record.arms)
    return tuple(
        EdgeRow(
            arm=f"{names[edge.arm]}, {edge.axis}",
            held=_held(edge),
            predicted=_count(edge.predicted),
            found=_count(edge.found),
            error=UNKNOWN if edge.error is None else f"{100 * edge.error:+.1f} %",
            above=_above(edge),
        )
        for edge in record.frontier.edges
    )


def frontier_sentences(record: RunRecord) -> tuple[str, ...]:
    """What each edge is, the first arm's beside every other one's where memory is what ended both."""
    told = []
    by_axis: dict[str, list[FrontierEdge]] = {}
    for edge in record.frontier.edges if record.frontier else ():
        by_axis.setdefault(edge.axis, []).append(edge)
    for first, *others in by_axis.values():
        pairs = [_pair(record, first, edge) for edge in others if _of_memory(first) and _of_memory(edge)]
        told += pairs or [_alone(record, first)]
        told += [_alone(record, edge) for edge in others if not (_of_memory(first) and _of_memory(edge))]
    return tuple(told)


def frontier_of(record: RunRecord, arm: int) -> str:
    """The edges of one arm; empty for a run that looked for none."""
    return " ".join(
        _alone(record, edge) for edge in (record.frontier.edges if record.frontier else ()) if edge.arm == arm
    )


def frontier_limit(record: RunRecord) -> str:
    """The memory that the search had."""
    limit = record.frontier.limit_bytes if record.frontier else None
    return "without a limit of memory" if limit is None else f"within {format_value(limit, 'bytes')} of memory"


def try_line(arm: str, axis: str, size: int, outcome: str, peak_bytes: int | None) -> str:
    """One try, such as "cached, context 65,536: fits, 3.10 GiB"."""
    used = "" if peak_bytes is None else f", {format_value(peak_bytes, 'bytes')}"
    return f"{arm}, {axis} {size:,}: {WORDS.get(outcome, outcome)}{used}"


def _of_memory(edge: FrontierEdge) -> bool:
    """Whether there is an edge, and memory is what ended the search."""
    ended = next((each.outcome for each in edge.tries if each.size == edge.found_above), None)
    return edge.found is not None and ended in OF_MEMORY


def _alone(record: RunRecord, edge: FrontierEdge) -> str:
    name = arm_names(record.arms)[edge.arm]
    if edge.found is None:
        return f"{_opening(edge)} {name} has no size that fits: {printable(edge.detail)}."
    # An edge of memory says it by itself; any other end has to be named.
    why = "" if _of_memory(edge) else f": {printable(edge.detail)}"
    return f"{_opening(edge)} {name} fits {edge.found:,} {UNITS[edge.axis]}{why}."


def _pair(record: RunRecord, first: FrontierEdge, edge: FrontierEdge) -> str:
    """Two edges of memory, and the share that lies between them."""
    assert first.found is not None
    assert edge.found is not None
    names, arms = arm_names(record.arms), record.arms
    change = edge.found / first.found - 1
    if edge.found == first.found:
        share = "the same"
    elif change < 0 and arms[edge.arm].cache != NO_CACHE and arms[first.arm].cache == NO_CACHE:
        share = f"the cache costs {_percent(change)} of the {edge.axis}"
    else:
        share = f"{_percent(change)} {'less' if change < 0 else 'more'}"
    fits = f"{names[first.arm]} fits {first.found:,} {UNITS[edge.axis]} and {names[edge.arm]} {edge.found:,}"
    return f"{_opening(edge)} {fits}: {share}."


def _percent(change: float) -> str:
    return format_value(abs(change), "ratio")


def _opening(edge: FrontierEdge) -> str:
    return f"At batch {edge.fixed:,}" if edge.axis == "context" else f"At {edge.fixed:,} tokens of context"


def _above(edge: FrontierEdge) -> str:
    ended = next((each for each in edge.tries if each.size == edge.found_above), None)
    return UNKNOWN if ended is None else f"{ended.size:,}: {WORDS.get(ended.outcome, ended.outcome)}"


def _held(edge: FrontierEdge) -> str:
    return f"batch {edge.fixed:,}" if edge.axis == "context" else f"{edge.fixed:,} tokens"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
