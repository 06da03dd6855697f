"""The search for the largest sizes that fit: the parent's part. Every try is the worker's, which may die of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kvbench.errors import RunFailed
from kvbench.model_costs import Decoding, facts_from_mapping, largest
from kvbench.plan import Attempt, Plan
from kvbench.records.samples import Prepared
from kvbench.records.scaling import Attempted, Capacity, SearchEnd, Tried
from kvbench.running.job import Progress
from kvbench.running.supervisor import Listen, Message, Runner

HOW = {
    "oom": "runs out of memory",
    "infeasible": "is refused for its memory",
    "crashed": "ends the worker process",
    "timeout": "takes longer than frontier.timeout_s",
    "failed": "fails",
}


@dataclass(frozen=True)
class _Edge:
    """What is enlarged, and what is held."""

    arm: int
    axis: str
    fixed: int

    def size(self, size: int) -> tuple[int, int]:
        """Rows and context of a try."""
        return (self.fixed, size) if self.axis == "context" else (size, self.fixed)


def search_frontier(plan: Plan, runner: Runner, log: Path, listen: Listen) -> None:
    """Find every edge that a plan asks for; each try leaves through `listen` as soon as it has ended.

    Raises the `KvbenchError` of a model that cannot be loaded at all; a try's own end is a `Tried`.
    """
    _Frontier(plan, runner, log, listen).run()


class _Frontier:
    """One search after the other, with one worker for as long as it lives."""

    def __init__(self, plan: Plan, runner: Runner, log: Path, listen: Listen) -> None:
        self._plan = plan
        self._runner = runner
        self._log = log
        self._listen = listen
        self._prepared: Prepared | None = None
        self._capacity: Capacity | None = None

    def run(self) -> None:
        self._runner.measure(self._plan, self._log, self._learn)
        for edge in self._edges():
            self._search(edge)

    def _learn(self, message: Message) -> None:
        if isinstance(message, Prepared):
            self._prepared = message
        elif isinstance(message, Capacity):
            self._capacity = message
        self._listen(message)

    def _edges(self) -> Iterator[_Edge]:
        workload = self._plan.config.workload
        assert workload.prompt_tokens is not None  # config.rules
        fixed = {"context": workload.batch_size, "batch": workload.prompt_tokens}
        for axis in self._plan.config.frontier.axes or ():
            for arm in range(len(self._plan.arms)):
                yield _Edge(arm, axis, fixed[axis])

    def _search(self, edge: _Edge) -> None:
        config = self._plan.config
        predicted = self._predicted(edge)
        least = config.workload.new_tokens if edge.axis == "context" else 1
        most = self._most(edge.axis)
        expected = predicted or (
            config.workload.prompt_tokens if edge.axis == "context" else config.workload.batch_size
        )
        # Just below what is predicted: its next stride leads just above it.
        start = max(1, int((expected or 1) * (1 - config.frontier.resolution / 2)))
        search = EdgeSearch(start, least, most, config.frontier.resolution)
        ends: dict[int, str] = {}
        while (size := search.next_size()) is not None:
            self._listen(Progress("trying sizes", len(ends), None))
            tried = self._try(edge, predicted, size)
            ends[size] = HOW.get(tried.outcome, tried.outcome)
            self._listen(tried)
            search.tell(size, fits=tried.outcome == "fits")
        self._listen(SearchEnd(edge.arm, edge.axis, search.closed, self._said(edge.axis, search, ends)))

    def _predicted(self, edge: _Edge) -> int | None:
        assert self._prepared is not None
        assert self._capacity is not None
        if self._capacity.limit_bytes is None:
            return None
        arm, model = self._plan.arms[edge.arm], self._prepared.model
        budget_bytes = self._capacity.limit_bytes - self._capacity.overhead_bytes
        own = str(model.get("attention") or "sdpa")
        decoding = Decoding(
            arm=arm,
            attention=own if arm.attention == "auto" else arm.attention,
            new_tokens=self._plan.config.workload.new_tokens,
            on_host=self._capacity.of_process,
            chunk=self._plan.config.workload.prefill_chunk,
        )
        return largest(facts_from_mapping(model), decoding, budget_bytes, edge.axis, edge.fixed)

    def _most(self, axis: str) -> int | None:
        frontier = self._plan.config.frontier
        assert self._prepared is not None
        limits = (
            [frontier.max_context, self._prepared.model.get("max_context")]
            if axis == "context"
            else [frontier.max_batch]
        )
        return min((limit for limit in limits if limit is not None), default=None)

    def _try(self, edge: _Edge, predicted: int | None, size: int) -> Tried:
        assert self._capacity is not None
        frontier = self._plan.config.frontier
        rows, context = edge.size(size)
        # On a device a budget that nobody set is the device's own, which needs no guard.
        limit = self._capacity.limit_bytes if self._capacity.of_process or frontier.memory_gib is not None else None
        attempt = Attempt(edge.arm, rows, context, limit, frontier.timeout_s)
        peaks: list[int | None] = []

        def hear(message: Message) -> None:  # readings of memory stay here: many workers have no one time line
            if isinstance(message, Attempted):
                peaks.append(message.peak_bytes)

        outcome, detail = "fits", ""
        began_s = time.monotonic()
        try:
            self._runner.measure(replace(self._plan, attempt=attempt), self._log, hear)
        except RunFailed as error:
            outcome, detail = error.status, str(error)
        seconds = time.monotonic() - began_s
        peak = peaks[-1] if peaks else None
        return Tried(
            arm=edge.arm,
            axis=edge.axis,  # type: ignore[arg-type]
            fixed=edge.fixed,
            predicted=predicted,
            size=size,
            outcome=outcome,  # type: ignore[arg-type]
            peak_bytes=peak,
            seconds=seconds,
            detail=detail,
        )

    def _said(self, axis: str, search: EdgeSearch, ends: dict[int, str]) -> str:
        if not search.closed:
            return f"ended after {search.tries} tries, before there was an edge"
        if search.above is None:
            frontier = self._plan.config.frontier
            asked = frontier.max_context if axis == "context" else frontier.max_batch
            return f"frontier.max_{axis} ends the search" if search.most == asked else "the model's context ends there"
        how = f"{search.above:,} {ends[search.above]}"
        return how if search.found is not None else f"nothing fits: {how}"


# The search for one edge, which knows of sizes alone.


LEAST_STRIDE = 0.05  # relative; of a search to the unit too, whose first strides would be single tokens
MOST_STRIDE = 3.0  # four times the size: failing far beyond the edge is slow where nothing refuses memory
LARGEST_SIZE = 2**31  # where nothing else ends a search: its bytes are still numbers that a record holds
MOST_TRIES = 48  # enough for any edge up to a million from any start (tests/unit/running/test_edge_search.py)


class EdgeSearch:
    """The largest size that fits, sought by a pure object that is told how each try ended.

    Sizes from `least` to `most` (None: no end), from `start` on, until the edge is within `resolution`, relative. It
    takes for granted that whatever fits at a size fits at every smaller one. It starts just below the prediction and
    looks just above it next, so that a good prediction costs two tries; from a bad one it walks in growing steps until
    it has an edge between two sizes, and halves what is left.

    `found` is the largest size that fitted, `above` the smallest that did not; None before there is one.
    """

    def __init__(self, start: int, least: int, most: int | None, resolution: float) -> None:
        self.least = least
        self.most = most
        self.tries = 0
        self.found: int | None = None
        self.above: int | None = None
        self._start = max(least, start if most is None else min(start, most))
        self._resolution = resolution
        self._stride = max(resolution, LEAST_STRIDE)

    def next_size(self) -> int | None:
        """What to try next; None when the search has ended."""
        found, above = self.found, self.above
        if self.closed or self.tries >= MOST_TRIES:
            return None
        if found is not None and above is not None:
            return max(found + 1, math.isqrt(found * above)) if above > 2 * found else (found + above) // 2
        if above is not None:
            return max(self.least, min(above - 1, math.ceil(above / (1 + self._stride))))
        if found is not None:
            larger = max(found + 1, int(found * (1 + self._stride)))
            return min(larger, LARGEST_SIZE if self.most is None else self.most)
        return self._start

    @property
    def closed(self) -> bool:
        """Whether there is an edge, or a limit where one was expected."""
        if self.found is None:
            return self.above == self.least
        if self.above is None:
            return self.found == self.most
        return self.above - self.found <= max(1, self._resolution * self.found)

    def tell(self, size: int, *, fits: bool) -> None:
        """How the try of a size ended."""
        if self.tries:
            self._stride = min(2 * self._stride, MOST_STRIDE)
        self.tries += 1
        if fits:
            self.found = size if self.found is None else max(self.found, size)
        else:
            self.above = size if self.above is None else min(self.above, size)
