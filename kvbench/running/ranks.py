"""The parent's side of a model over several devices: one process for each further rank, watched for its end."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from kvbench.errors import KvbenchError, RankLost, WorkerCrashed
from kvbench.running.faults import Fault
from kvbench.running.team import RankPlace, launched_place

LAST_WORDS_S = 3.0  # for ranks to say what ended them, after one of them has ended
IN_STEP_S = 60.0  # within which all ranks end a run that one of them has ended

Start = Callable[[str], tuple[SpawnProcess, Connection]]  # a worker process by its name


@dataclass
class _Rank:
    number: int
    process: SpawnProcess
    connection: Connection
    told: Any = None  # the last message that it sent in this run


@dataclass
class Ranks:
    """The processes of the ranks after rank 0, which is the worker. None for a model on one device.

    Under torchrun every rank has a parent of its own, and this one has its own rank alone.
    """

    size: int = 1
    place: RankPlace | None = None  # of the worker; None where there are no ranks
    _others: list[_Rank] = field(default_factory=list)
    _folder: Path | None = None

    def start(self, size: int, start: Start) -> None:
        """Start the other ranks; the worker itself is started by its supervisor."""
        self.size = size
        if size == 1:
            return
        self.place = launched_place()
        if self.place is not None:
            return
        self._folder = Path(tempfile.mkdtemp(prefix="kvbench-ranks-"))
        self.place = RankPlace(0, size, 0, str(self._folder / "store"))
        self._others = [_Rank(number, *start(f"kvbench-rank-{number}")) for number in range(1, size)]

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the other ranks."""
        return tuple(each.process.pid for each in self._others if each.process.pid is not None)

    @property
    def waitables(self) -> list[Any]:
        """What `multiprocessing.connection.wait` can wait for: a message or the end of another rank."""
        silent = [each for each in self._others if each.told is None]
        return [each.connection for each in silent] + [each.process.sentinel for each in silent]

    def send(self, order_at: Callable[[RankPlace], Any]) -> None:
        """Give every other rank its order."""
        for each in self._others:
            assert self.place is not None
            each.told = None
            place = RankPlace(each.number, self.size, each.number, self.place.store, self.place.timeout_s)
            each.connection.send(order_at(place))

    def require_alive(self) -> None:
        """Raise what has ended another rank, if one has ended or has told of a fault."""
        for each in self._others:
            self._hear(each)
        self._require_fine()

    def require_done(self, left_s: float) -> None:
        """Wait until every other rank has ended its run too. Raises what has ended one that has not.

        `left_s` is how long the run may still take.
        """
        allowed_s = min(IN_STEP_S, left_s)
        until_s = time.monotonic() + allowed_s
        while self.waitables and time.monotonic() < until_s:
            wait(self.waitables, timeout=until_s - time.monotonic())
            self.require_alive()
        silent = [each.number for each in self._others if each.told is None]
        if silent:
            raise WorkerCrashed(f"{_named(silent)} did not end the run within {allowed_s:.3g} s after rank 0 had")

    def blame(self, error: KvbenchError) -> KvbenchError:
        """What ended a run, once rank 0 has told its own error: where another rank is the cause, that one is named."""
        if not self._others:
            return error
        lost = isinstance(error, RankLost | WorkerCrashed)
        until_s = time.monotonic() + (LAST_WORDS_S if lost else 0.0)
        while lost and self.waitables and time.monotonic() < until_s:
            wait(self.waitables, timeout=max(0.0, until_s - time.monotonic()))
            for each in self._others:
                self._hear(each)
        try:
            self._require_fine()
        except KvbenchError as cause:
            if lost:
                return cause
        silent = [each.number for each in self._others if each.told is None]
        if isinstance(error, RankLost) and silent:
            return WorkerCrashed(f"{_named(silent)} did not answer any more, and the run was ended ({error})")
        return error

    def kill(self) -> None:
        """End the other ranks, and leave nothing of their meeting place."""
        for each in self._others:
            each.process.kill()
        for each in self._others:
            each.process.join()
            each.connection.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self.size, self.place, self._others, self._folder = 1, None, [], None

    def _hear(self, each: _Rank) -> None:
        with suppress(EOFError, OSError):
            if each.told is None and each.connection.poll():
                each.told = each.connection.recv()

    def _require_fine(self) -> None:
        for each in self._others:
            if each.told is None and not each.process.is_alive():
                self._hear(each)
            if each.told is None and not each.process.is_alive():
                raise WorkerCrashed(
                    f"{_named([each.number])} of {self.size} ended without an answer ({how_ended(each.process)})"
                )
        faults = [(each.number, each.told) for each in self._others if isinstance(each.told, Fault)]
        # A rank that only lost the others is not the cause.
        faults.sort(key=lambda one: one[1].kind == RankLost.__name__)
        for number, fault in faults:
            error = fault.error()
            raise error if isinstance(error, RankLost) else type(error)(f"rank {number}: {error}")


def how_ended(process: SpawnProcess) -> str:
    """The signal or the exit code that a process ended with, in words."""
    code = process.exitcode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _named(numbers: Sequence[int]) -> str:
    return f"rank{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
