"""Which runs of a page get a section of their own when there are more than anyone opens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvbench.report.overview import Summary

MOST_SECTIONS = 50  # a section weighs about 100 KiB
MOST_OF_A_KIND = 4


@dataclass(frozen=True)
class Selection:
    """Positions of the runs that are drawn; `note` says which those are, empty when they are all."""

    runs: tuple[int, ...]
    note: str


def selected(runs: Sequence[Summary]) -> Selection:
    """All of them up to `MOST_SECTIONS`; else those at the ends of the speed-ups, and the first that are not VALID."""
    if len(runs) <= MOST_SECTIONS:
        return Selection(tuple(range(len(runs))), "")
    known = sorted((best, number) for number, run in enumerate(runs) if (best := run.best) is not None and run.valid)
    slowest, fastest = known[:MOST_OF_A_KIND], known[-MOST_OF_A_KIND:]
    not_valid = [number for number, run in enumerate(runs) if not run.valid][:MOST_OF_A_KIND]
    alone = [number for number, run in enumerate(runs) if run.valid and run.best is None][:MOST_OF_A_KIND]
    chosen = sorted({number for _, number in (*slowest, *fastest)} | set(not_valid) | set(alone))
    return Selection(
        tuple(chosen),
        f"{len(chosen)} of {len(runs):,} runs are drawn here: those with the {MOST_OF_A_KIND} smallest and the"
        f" {MOST_OF_A_KIND} largest speed-ups, and the first {MOST_OF_A_KIND} each of those without one and of those"
        " that are not VALID. All of them are in the table; python -m kvbench report RUN_FOLDER draws any other.",
    )
