"""What a job of a launched sweep does: takes one point after another until none is left, and never raises."""

from __future__ import annotations

import multiprocessing
import os
import platform
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from rich.console import Console

from kvbench.config.compose import PointLoader
from kvbench.config.schema import Config
from kvbench.display import Display, waiting_line
from kvbench.errors import ConfigError, RecordError, reason_of
from kvbench.language import speaking
from kvbench.launching.host_devices import cores_of, device_choices
from kvbench.launching.order import Order, Outcome, read_order
from kvbench.launching.queue import Queue
from kvbench.point import Finished, open_runner, recorded_point
from kvbench.records.sharing import Waiting
from kvbench.records.store import REPORT, StoredRun
from kvbench.running.faults import stopped_by_signals
from kvbench.running.leases import seat_of
from kvbench.running.supervisor import Message, Runner

HAS_AFFINITY = hasattr(os, "sched_getaffinity")
_CORES = sorted(os.sched_getaffinity(0)) if HAS_AFFINITY else []  # before any job has given some to another


def run(task: Any) -> dict[str, Any]:
    """One job, given by Hydra: `order` is the sweep's folder, `part` and `lane` say which points are its own.

    Never raises: what went wrong is in the answer, in the journal and in the points' records. Who launched it reads
    those; the answer is for a launcher's own log.
    """
    try:
        order = read_order(Path(str(task.order)))
        measured = work(Path(str(task.order)), order, int(task.part), int(task.lane))
    except KeyboardInterrupt:
        return {"stopped": True}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {reason_of(error)}"}
    return {"points": measured}


def work(sweep: Path, order: Order, part: int, lane: int) -> int:
    """Measure this lane's points in this process; how many it took.

    The process becomes the lane's: its folder, its variables and its cores are those of the order.
    """
    for name, value in order.environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(order.folder)
    GlobalHydra.instance().clear()  # the launcher's, which composed this job: its points are composed by themselves
    # Loky, which joblib starts its processes with, leaves its own name there, which no child of ours could use.
    multiprocessing.set_start_method("spawn", force=True)
    if order.lanes > 1 and HAS_AFFINITY:
        os.sched_setaffinity(0, cores_of(lane, order.lanes, _CORES))
    log = sweep / f"job-{part}-{lane}.log"
    with stopped_by_signals(), Queue(sweep, order, part, lane) as queue, log.open("a", encoding="utf-8") as file:
        queue.say(f"process {os.getpid()} on {platform.node()}")
        with _Bench(sweep, order, queue, Display(Console(file=file, width=120), brief=True)) as bench:
            return bench.work()


class _Bench:
    """A lane's runner, on the device that it has a seat at, and what was finished before."""

    def __init__(self, sweep: Path, order: Order, queue: Queue, display: Display) -> None:
        self._sweep = sweep
        self._order = order
        self._queue = queue
        self._display = display
        self._watcher = _Watcher(display, queue)
        self._loader = PointLoader(order.points, order.sources)
        self._runner: Runner | None = None
        self._seat: tuple[str, ...] = ()  # the leases among which the runner's device was chosen
        self._held = ExitStack()

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave_seat()

    def work(self) -> int:
        """Every point that the queue gives; how many."""
        taken = 0
        while (point := self._queue.take()) is not None:
            taken += 1
            run, earlier = self._run_of(point)
            if run is None:
                continue
            self._queue.done(Outcome(point, str(run.folder), run.record.status, earlier))
            if run.record.status == "interrupted":
                break
        return taken

    def _run_of(self, point: int) -> tuple[StoredRun | None, bool]:
        """A point's run, and whether it was there before; none, with the reason in the journal, if nothing is kept."""
        overrides = self._order.points[point]
        config: Config | ConfigError
        try:
            config = self._loader.load(overrides)
        except ConfigError as error:
            config = error
        try:
            if isinstance(config, Config):
                runner = self._at_device(config)
                earlier = self._finished.run_of(config)
                if earlier is not None:
                    return earlier, True
            else:
                runner = self._runner or open_runner(Config())
            language = config.language if isinstance(config, Config) else None
            with speaking(language):
                run, refusal = recorded_point(overrides, config, runner, self._sweep, self._watcher)
                if isinstance(config, Config) and config.report == "true":
                    self._display.report([run], run.folder / REPORT, config.report)
                if isinstance(config, Config) and refusal is None:
                    self._display.track(run, config.track, failed=self._queue.say)
        except Exception as error:  # a disk that is full: told where the next line may still fit
            self._queue.done(Outcome(point, None, "failed", reason=f"{type(error).__name__}: {reason_of(error)}"))
            if isinstance(error, RecordError):
                raise
            return None, False
        return run, False

    def _at_device(self, config: Config) -> Runner:
        """A runner on a device of this host that no other lane has, if this point may be measured on any of them."""
        choices = device_choices(config)
        leases = tuple(lease for lease, _ in choices)
        if self._runner is not None and leases == self._seat:
            return self._runner
        self._leave_seat()
        index = seat_of(leases, self._held)
        if index is not None:
            before = {name: os.environ.get(name) for name in choices[index][1]}
            os.environ.update(choices[index][1])
            self._held.callback(_put_back, before)
        self._seat = leases
        self._runner = open_runner(config)
        self._held.callback(self._runner.close)
        self.__dict__.pop("_finished", None)
        return self._runner

    def _leave_seat(self) -> None:
        self._held.close()
        self._runner = None

    @cached_property
    def _finished(self) -> Finished:
        assert self._runner is not None
        return Finished(Path(self._order.results_dir), self._runner)


def _put_back(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class _Watcher:
    """A display in the lane's log, and for whom it waits also where the whole sweep is watched."""

    def __init__(self, display: Display, queue: Queue) -> None:
        self._queue = queue
        self.showing = display.showing
        self.outcome = display.outcome
        self._display = display

    def hear(self, message: Message) -> None:
        """A message of the measurement."""
        self._display.hear(message)
        if isinstance(message, Waiting):
            self._queue.say(waiting_line(message))
