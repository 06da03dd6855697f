"""Which point a job takes next: of the model that it has loaded, if there is one, and none that another job has."""

from __future__ import annotations

import os
import platform
from collections import Counter, deque
from contextlib import ExitStack
from pathlib import Path

from kvbench.launching.order import STOP, Claim, Entry, Journal, Order, Outcome, Progress, Said
from kvbench.running.leases import Exclusive

MOST_TRIES = 2  # jobs of one host that may end without a word over one point before it is left alone


class Queue:
    """The points of one part, seen by one of its lanes. A context manager: the lane counts as alive inside.

    Where a part has a single lane nothing is locked, so that the folder may be on any file system.
    """

    def __init__(self, sweep: Path, order: Order, part: int, lane: int) -> None:
        self._sweep = sweep
        self._order = order
        self._lane = lane
        self._shared = order.lanes > 1
        self._name = f"{sweep.name}-part-{part}"
        self._journal = Journal(sweep, part)
        self._progress = Progress()
        self._begun: set[int] = set()  # by this lane, since it began
        self._group: int | None = None  # of the last point taken
        self._alive = ExitStack()
        self._free: dict[int, deque[int]] = {}  # points that nobody has begun, by group
        for point in order.parts[part]:
            self._free.setdefault(order.groups[point], deque()).append(point)

    def __enter__(self) -> Queue:
        if self._shared:
            self._alive.enter_context(Exclusive(self._lane_name(self._lane)))
        return self

    def __exit__(self, *_: object) -> None:
        self._alive.close()

    def take(self) -> int | None:
        """The next point, which is this lane's from now on; None when none is left. Raises `RecordError`."""
        if (self._sweep / STOP).exists():
            return None
        with Exclusive(f"{self._name}-taking") if self._shared else ExitStack():
            self._catch_up()
            point = self._next_new() if any(self._free.values()) else self._left_behind()
            if point is not None:
                self._group = self._order.groups[point]
                self._begun.add(point)
                self._append(Claim(point, self._lane, os.getpid(), platform.node()))
        return point

    def done(self, outcome: Outcome) -> None:
        """What has become of a point. Raises `RecordError` when it cannot be written."""
        self._append(outcome)

    def say(self, text: str) -> None:
        """A line for whoever watches the sweep. Raises `RecordError` when it cannot be written."""
        self._append(Said(self._lane, text))

    def _append(self, entry: Entry) -> None:
        self._journal.append(entry)

    def _catch_up(self) -> None:
        for entry in self._journal.news():
            if isinstance(entry, (Claim, Outcome)):
                begun = self._free.get(self._order.groups[entry.point])
                if begun and entry.point in begun:
                    begun.remove(entry.point)
            self._progress.add(entry)

    def _next_new(self) -> int:
        """Of the group at hand; else of the group with the most left for each lane that is at it."""
        if self._group is not None and self._free.get(self._group):
            return self._free[self._group][0]
        at_it = Counter(
            self._order.groups[point]
            for point, claims in self._progress.claims.items()
            if point not in self._progress.outcomes and claims[-1].lane != self._lane
        )
        group = max((each for each in self._free if self._free[each]), key=lambda each: self._share(each, at_it))
        return self._free[group][0]

    def _share(self, group: int, at_it: Counter[int]) -> tuple[float, int]:
        return len(self._free[group]) / (1 + at_it[group]), -group

    def _left_behind(self) -> int | None:
        """A point whose job has ended without a word, as when it was killed.

        Not for ever: of several jobs each would be killed by the same point. How often a single one is started again is
        for its queue to say.
        """
        for point, claims in self._progress.claims.items():
            tried_enough = self._shared and len(claims) >= MOST_TRIES
            if point in self._progress.outcomes or point in self._begun or tried_enough:
                continue
            lane = claims[-1].lane
            if lane == self._lane or not Exclusive(self._lane_name(lane)).is_held():
                return point
        return None

    def _lane_name(self, lane: int) -> str:
        return f"{self._name}-lane-{lane}"
