"""Whether the host kept its speed over a run, and whether it is as fast as when this machine's limits were measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kvbench.records.ceilings import Ceilings
from kvbench.records.evidence import (
    HOST_FIGURES,
    HostCheck,
    HostChecks,
    RunWarning,
)
from kvbench.text import format_value

MOVED = 0.2  # relative: what a quiet host does not do by itself from one check to the next


@dataclass(frozen=True)
class HostChange:
    """One figure of the host's checks at two times, with the pointers to them in a record."""

    name: str
    before_s: float
    after_s: float
    pointers: tuple[str, str]

    @property
    def ratio(self) -> float:
        """Above 1 the host is slower at the second time."""
        return self.after_s / self.before_s

    @property
    def is_large(self) -> bool:
        """Whether it is more than a quiet host does by itself."""
        return max(self.ratio, 1 / self.ratio) > 1 + MOVED

    @property
    def percent(self) -> str:
        """Such as `+50%`."""
        return f"{self.ratio - 1:+.0%}"


def moved(checks: HostChecks | None) -> HostChange | None:
    """The figure that moved most from before the blocks to after them, if one moved by more than it should."""
    if checks is None or checks.before is None or checks.after is None:
        return None
    return _largest(_changes(checks.before, checks.after, "/host_checks/before", "/host_checks/after"))


def unlike_kept(checks: HostChecks | None, ceilings: Ceilings | None) -> HostChange | None:
    """The figure that is farthest from what was kept with the ceilings, if one is farther than it should be."""
    if checks is None or ceilings is None or ceilings.host is None:
        return None
    times = (("before", checks.before), ("after", checks.after))
    return _largest(
        change
        for when, check in times
        if check is not None
        for change in _changes(ceilings.host, check, "/ceilings/host", f"/host_checks/{when}")
    )


def host_change_since(first: HostChecks | None, again: HostChecks | None) -> HostChange | None:
    """The figure that changed most from before the blocks of one run to before those of another, if one did."""
    if first is None or again is None or first.before is None or again.before is None:
        return None
    return _largest(_changes(first.before, again.before, "/host_checks/before", "/host_checks/before"))


def host_warnings(checks: HostChecks | None, ceilings: Ceilings | None) -> tuple[RunWarning, ...]:
    """What a reader should know of the host's speed; silence is no warning."""
    found = []
    if (change := moved(checks)) is not None:
        found.append(RunWarning(code="host_moved", detail=f"{moved_text(change)}: {_REMEDY}"))
    if (change := unlike_kept(checks, ceilings)) is not None:
        slower = change.ratio > 1
        remedy = _REMEDY if slower else "run `kvbench doctor --ceilings` again, the kept limits are out of date"
        found.append(RunWarning(code="host_slow" if slower else "host_fast", detail=f"{unlike_text(change)}: {remedy}"))
    return tuple(found)


_REMEDY = "close other programs, or measure again later"


def moved_text(change: HostChange) -> str:
    """What moved within the run, and by how much."""
    times = f"{format_value(change.before_s, 's')} before the blocks and {format_value(change.after_s, 's')} after them"
    return (
        f"a {HOST_FIGURES[change.name]} took {times} ({change.percent}), so the host changed its speed during the run"
    )


def unlike_text(change: HostChange) -> str:
    """What is unlike the kept figure, and by how much."""
    word = "slower" if change.ratio > 1 else "faster"
    return (
        f"a {HOST_FIGURES[change.name]} took {format_value(change.after_s, 's')}, and"
        f" {format_value(change.before_s, 's')} when `kvbench doctor --ceilings` measured this machine"
        f" ({change.percent}), so the host is {word} than it was then"
    )


def _changes(before: HostCheck, after: HostCheck, here: str, there: str) -> Iterator[HostChange]:
    for name in HOST_FIGURES:
        first, second = getattr(before, name), getattr(after, name)
        if first and second:
            yield HostChange(name, first, second, (f"{here}/{name}", f"{there}/{name}"))


def _largest(changes: Iterator[HostChange]) -> HostChange | None:
    large = [change for change in changes if change.is_large]
    return max(large, key=lambda change: abs(math.log(change.ratio)), default=None)
