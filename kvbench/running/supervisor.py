"""The parent's side: starts the worker, listens without spinning, watches its memory, replaces it when it dies."""

from __future__ import annotations

import atexit
import math
import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import psutil

from kvbench.errors import BadInput, OutOfMemory, TimedOut, WorkerCrashed
from kvbench.measuring.sensors import DeviceSensors, NullSensors, open_sensors
from kvbench.plan import Plan
from kvbench.records.evidence import HostSample
from kvbench.records.samples import Prepared, Sample, Watching
from kvbench.records.scaling import Attempting
from kvbench.records.sharing import Sharing, Waiting
from kvbench.running import worker
from kvbench.running.faults import Fault, fault_of, uninterrupted
from kvbench.running.job import Progress, Text
from kvbench.running.ranks import Ranks, how_ended
from kvbench.running.worker import Done, Order, Survey, Workshop

WATCH_EVERY_S = 0.25  # memory readings from outside; each costs the parent well under a millisecond
GUARD_EVERY_S = 0.02  # of a try with a limit: what a process can touch in between is some tens of MiB
SURVEYS = 3  # workers that are asked for their environment before nothing is known of it
GOODBYE_S = 2.0  # for a worker whose connection was closed, before it is killed

Message = Sample | Progress | Text | HostSample | Watching | Attempting | Waiting
Listen = Callable[[Message], None]


class Runner(Protocol):
    """Measures plans, one at a time; what is learnt arrives at `listen` as it is learnt."""

    def measure(self, plan: Plan, log: Path, listen: Listen) -> None:
        """Raises the `KvbenchError` that ended the measurement, if one did."""

    def survey(self, plan: Plan) -> dict[str, Any]:
        """The stable environment that a plan would be measured in; empty where it cannot be told."""

    def close(self) -> None:
        """Give up model and device."""


class Supervisor:
    """A runner with the model in a process of its own, kept from run to run. A context manager."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._ranks = Ranks()  # after the worker, which is rank 0

    def measure(self, plan: Plan, log: Path, listen: Listen) -> None:
        """Have the worker measure one plan. Raises the `KvbenchError` that ended it, if one did."""
        process, connection = self._worker(plan.config.model.tensor_parallel)
        ranks = self._ranks
        watch = _Watch((process.pid, *ranks.pids))
        deadline = _Deadline(plan.config.measure.timeout_s, "measure.timeout_s")
        has_begun = False  # what a run that began may leave behind, an engine that refuses a step included
        try:
            ranks.send(lambda place: Order(plan, log.resolve(), place))
            connection.send(Order(plan, log.resolve(), ranks.place))
            while True:
                deadline.require()
                waited = [connection, process.sentinel, *ranks.waitables]
                ready = wait(waited, timeout=min(watch.every_s, deadline.left_s()))
                if connection not in ready:
                    ranks.require_alive()
                    if process.sentinel in ready:
                        raise ranks.blame(WorkerCrashed(_last_words(process)))
                    if not watch.paused:
                        listen(watch.reading())
                    continue
                message = connection.recv()
                if isinstance(message, Done):
                    ranks.require_done(deadline.left_s())
                    if not message.is_fit:
                        self.close()  # the next run starts with a clean process
                    return
                if isinstance(message, Fault):
                    refusal = message.error()
                    if isinstance(refusal, BadInput) and not has_begun and ranks.size == 1:
                        break  # nothing ran, so the model may stay
                    raise ranks.blame(refusal)
                has_begun = has_begun or isinstance(message, Prepared)
                watch.notice(message)
                if isinstance(message, Waiting):  # for other runs, which is nobody's time
                    deadline = _Deadline(None, deadline.key)
                elif isinstance(message, Sharing) and deadline.is_stopped:
                    deadline = _Deadline(plan.config.measure.timeout_s, deadline.key)
                if isinstance(message, Attempting) and plan.attempt is not None:
                    deadline = _Deadline(plan.attempt.timeout_s, "frontier.timeout_s")
                    watch.guard(plan.attempt.limit_bytes)
                if isinstance(message, Watching):
                    continue
                listen(message)
                if watch.due():
                    listen(watch.reading())
        except (EOFError, OSError) as error:  # the other end of the pipe is gone, perhaps in mid-message
            crashed = ranks.blame(WorkerCrashed(_last_words(process)))
            self._kill()
            raise crashed from error
        except BaseException:
            # Whatever ended this run, the next one starts with a clean process and a clean device.
            self._kill()
            raise
        raise refusal

    def survey(self, plan: Plan) -> dict[str, Any]:
        """The environment as the worker sees it; empty where none of several workers can tell it."""
        for _ in range(SURVEYS):
            process, connection = self._worker(plan.config.model.tensor_parallel)
            try:
                connection.send(Survey(plan))
                wait([connection, process.sentinel])
                answer = connection.recv()
            except (EOFError, OSError):  # killed from outside: what is not told is measured again
                self._kill()
            except BaseException:
                self._kill()
                raise
            else:
                return {} if isinstance(answer, Fault) else answer
        return {}

    def close(self) -> None:
        """Hang up and wait; a worker that does not go is killed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.join(GOODBYE_S)
        self._kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _worker(self, ranks: int) -> tuple[SpawnProcess, Connection]:
        if self._process is not None and self._ranks.size != ranks:
            self.close()  # it has met other ranks, or none
        if self._process is None or self._connection is None or not self._process.is_alive():
            self._kill()
            # Before multiprocessing's own, which asks the worker by a signal that it does not obey and waits for it.
            atexit.register(self._kill)
            ensure_running()  # starting this helper of multiprocessing's would let Ctrl-C through again
            self._process, self._connection = _started("kvbench-worker")
            self._ranks.start(ranks, _started)
        return self._process, self._connection

    def _kill(self) -> None:
        atexit.unregister(self._kill)
        self._ranks.kill()
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class InlineRunner:
    """A runner in this very process, for debugging and for tests. Nothing watches it from outside."""

    def __init__(self) -> None:
        self._workshop = Workshop()

    def measure(self, plan: Plan, log: Path, listen: Listen) -> None:
        """Measure one plan here. What libraries print stays on the terminal."""
        try:
            self._workshop.measure(plan, listen, worker.run_name(log))
        except Exception as error:
            with suppress(OSError), log.open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
            raise fault_of(error).error() from error

    def survey(self, plan: Plan) -> dict[str, Any]:
        """The environment of this process; empty where it cannot be told."""
        answer = worker.survey(plan)
        return {} if isinstance(answer, Fault) else answer

    def close(self) -> None:
        """Nothing to give up: the process ends with its caller."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Deadline:
    """The wall clock of one run, from the moment that the worker gets it."""

    def __init__(self, timeout_s: float | None, key: str) -> None:
        self._timeout_s = timeout_s
        self.key = key
        self._began_s = time.monotonic()

    @property
    def is_stopped(self) -> bool:
        """Whether it never comes."""
        return self._timeout_s is None

    def left_s(self) -> float:
        """Seconds until the run is ended; infinite without a limit."""
        if self._timeout_s is None:
            return math.inf
        return max(0.0, self._began_s + self._timeout_s - time.monotonic())

    def require(self) -> None:
        """Raise `TimedOut` when no time is left."""
        if self.left_s() == 0:
            raise TimedOut(
                f"ended after {self._timeout_s:g} s ({self.key}) by killing its worker; finished blocks are kept"
            )


class _Watch:
    """Memory of the worker, of the other ranks and of their devices, read from outside."""

    def __init__(self, pids: Sequence[int | None]) -> None:
        self._pids = pids
        self._began_s = time.monotonic()
        self._read_s = self._began_s
        self._phase = "loading"
        self.paused = False
        self.every_s = WATCH_EVERY_S
        self._limit_bytes: int | None = None
        self._sensors: DeviceSensors = NullSensors("the device is not known yet")

    def guard(self, limit_bytes: int | None) -> None:
        """From now on raise `OutOfMemory` at the first reading of more resident memory."""
        self._limit_bytes = limit_bytes
        self.every_s = WATCH_EVERY_S if limit_bytes is None else GUARD_EVERY_S

    def notice(self, message: Message) -> None:
        """Learn the phase, and the device once the worker knows it."""
        if isinstance(message, Watching):
            self.paused = not message.on
        elif isinstance(message, Progress):
            self._phase = message.phase
        elif isinstance(message, Prepared):
            environment = message.environment
            self._sensors = open_sensors(*environment.get("device_uuids") or (environment.get("device_uuid"),))

    def due(self) -> bool:
        """Whether the last reading is old enough for another."""
        return not self.paused and time.monotonic() - self._read_s >= self.every_s

    def reading(self) -> HostSample:
        """One reading now. Raises `OutOfMemory` beyond what `guard` allows."""
        self._read_s = time.monotonic()
        try:
            rss = sum(psutil.Process(pid).memory_info().rss for pid in self._pids)
        except psutil.Error:
            rss = None
        if self._limit_bytes is not None and rss is not None and rss > self._limit_bytes:
            raise OutOfMemory(f"ended by killing its worker, which held {rss:,} bytes of {self._limit_bytes:,}")
        return HostSample(
            elapsed_s=self._read_s - self._began_s,
            phase=self._phase,
            process_rss_bytes=rss,
            device_used_bytes=self._sensors.used_bytes(),
        )


def _started(name: str) -> tuple[SpawnProcess, Connection]:
    """A new worker process, and this end of the connection to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=worker.main, args=(theirs,), name=name, daemon=True)
    with uninterrupted():  # the child inherits it, until it has said how to be interrupted
        process.start()
    theirs.close()
    return process, ours


def _last_words(process: SpawnProcess) -> str:
    process.join(GOODBYE_S)
    advice = "; the system may have killed it for its memory" if process.exitcode == -9 else ""
    return (
        f"the worker process ended without an answer ({how_ended(process)}){advice}; its last output is in stdout.log"
    )
