"""A sweep whose points are measured by the jobs of a launcher: divided, handed out, watched, and told in one report."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from kvbench.commands.result_files import some
from kvbench.commands.sweep import exit_code
from kvbench.commands.validation import SweepPoint, refusal_lines
from kvbench.config.compose import Sources
from kvbench.config.schema import Config
from kvbench.display import Display
from kvbench.errors import ConfigError, RecordError
from kvbench.launching.host_devices import VISIBLE, device_choices
from kvbench.launching.launchers import Launcher
from kvbench.launching.order import STOP, Claim, Journal, Order, Outcome, Progress, Said
from kvbench.point import new_run_id
from kvbench.records.store import RECORD, REPORT, make_results_dir, read_record, remove_temporary_files
from kvbench.report.console import RunRow, outcome_lines, run_row
from kvbench.report.sentences import own_words, say
from kvbench.running.faults import STOPPING, stopped_by_signals

LOOK_EVERY_S = 0.5
MOST_ROUNDS = 8  # of handing out what jobs that were killed have left
HEARD_S = 1.5  # after which a job that goes on has not heard that the sweep is to stop


def run_launched(points: Sequence[SweepPoint], launcher: Launcher, where: Sources) -> int:
    """Measure every point of a validated sweep through a launcher; the exit code of the command table.

    Raises `RecordError` when results cannot be written.
    """
    first = next(point.config for point in points if isinstance(point.config, Config))
    results = Path(first.results_dir).absolute()
    make_results_dir(results)
    remove_temporary_files(results)
    sweep = results / f"sweep-{new_run_id()}"
    make_results_dir(sweep)
    order = make_order(points, launcher, where, results)
    order.write(sweep)
    return _Launched(points, launcher, sweep, order, first.report).run()


def make_order(points: Sequence[SweepPoint], launcher: Launcher, where: Sources, results: Path) -> Order:
    """How a sweep's points are divided.

    Jobs of one host share all points, and there are as many as the launcher or `jobs` says, else one per device. Other
    jobs have a group of points each, or part of one where `jobs` asks for more than there are groups.
    """
    configs = [point.config for point in points]
    groups = _groups(configs)
    first = next(config for config in configs if isinstance(config, Config))
    asked = launcher.jobs() or first.jobs
    if launcher.kind.is_local:
        parts: list[list[int]] = [list(range(len(points)))]
        one_of_each = {
            group: config for group, config in zip(groups, configs, strict=True) if isinstance(config, Config)
        }
        devices = 0 if asked else max(len(device_choices(config)) for config in one_of_each.values())
        lanes = min(asked or devices or 1, len(points))
    else:
        parts, lanes = _parts(groups, first.jobs), 1
    return Order(
        points=tuple(point.overrides for point in points),
        groups=tuple(groups),
        parts=tuple(map(tuple, parts)),
        lanes=lanes,
        results_dir=str(results),
        folder=str(Path.cwd()),
        config_path=str(where.config_path),
        config_name=where.config_name,
        config_dir=str(where.config_dir) if where.config_dir else None,
        # Some launchers hide the devices of this host from their jobs, or give each the first one.
        environ={VISIBLE: os.environ.get(VISIBLE)} if launcher.kind.is_local else {},
    )


def _groups(configs: Sequence[Config | ConfigError]) -> list[int]:
    """A number for each point: the same for those that a worker measures without loading another model."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(_group_key(config), len(numbers)) for config in configs]


def _group_key(config: Config | ConfigError) -> Any:
    if isinstance(config, ConfigError):
        return None
    return repr((asdict(config.model), config.device, config.threads, config.launch))


def _parts(groups: Sequence[int], jobs: int | None) -> list[list[int]]:
    """The points of each group, the largest of them halved until there are `jobs` parts."""
    parts = [[point for point, each in enumerate(groups) if each == group] for group in sorted(set(groups))]
    while jobs is not None and len(parts) < min(jobs, len(groups)):
        largest = max(parts, key=len)
        parts.remove(largest)
        parts += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
    return parts


class _Launched:
    """One launched sweep, watched from the process that launched it. Of each point it keeps a row of a table."""

    def __init__(
        self, points: Sequence[SweepPoint], launcher: Launcher, sweep: Path, order: Order, report: str
    ) -> None:
        self._points = points
        self._launcher = launcher
        self._sweep = sweep
        self._order = order
        self._report = report
        self._display = Display(brief=True)
        self._journals = [Journal(sweep, part) for part in range(len(order.parts))]
        self._progress = Progress()
        self._rows: dict[int, RunRow] = {}
        self._looking = threading.Lock()
        self._over = threading.Event()
        self._stopped_s: float | None = None

    def run(self) -> int:
        """Hand out the points until each has its record; the exit code."""
        for line in refusal_lines([point for point in self._points if point.refusal is not None], self._points):
            self._display.say(line)
        jobs = [(part, lane) for part in range(len(self._order.parts)) for lane in range(self._order.lanes)]
        facts = {"points": len(self._points), "jobs": len(jobs), "launcher": self._launcher.name, "folder": self._sweep}
        self._display.say(say("sweep.launched", **facts))
        watcher = threading.Thread(target=self._watch, name="kvbench-journals", daemon=True)
        watcher.start()
        try:
            with self._stopped_softly() if self._launcher.kind.is_local else stopped_by_signals():
                self._rounds(jobs)
        except KeyboardInterrupt:
            self._stopped_s = time.monotonic()
            if not self._launcher.kind.is_local:
                self._display.say(say("sweep.jobs-go-on", folder=self._sweep))
        finally:
            self._over.set()
            watcher.join()
            self._look()
        return self._end(stopped=self._stopped_s is not None)

    @contextmanager
    def _stopped_softly(self) -> Iterator[None]:
        """Ctrl-C and its like ask the jobs to stop, which write their records; the second time they end this sweep.

        A launcher that is interrupted kills its jobs.
        """
        ours = STOPPING if threading.current_thread() is threading.main_thread() else ()
        handlers = {number: signal.getsignal(number) for number in ours}
        heeded = [number for number, handler in handlers.items() if handler != signal.SIG_IGN]
        for number in heeded:
            signal.signal(number, self._stop)
        try:
            yield
        finally:
            for number in heeded:
                signal.signal(number, handlers[number])

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopped_s is not None:
            raise KeyboardInterrupt
        self._stopped_s = time.monotonic()
        with suppress(OSError):
            (self._sweep / STOP).touch()

    def _rounds(self, jobs: Sequence[tuple[int, int]]) -> None:
        """One round of jobs, and more for what killed ones have left, as long as each round gets something done."""
        for _ in range(MOST_ROUNDS):
            before = len(self._progress.outcomes)
            for line in self._launcher.launch(self._sweep, jobs):
                self._display.say(say("sweep.launcher-says", launcher=self._launcher.name, line=own_words(line)))
            self._look()
            done = len(self._progress.outcomes)
            all_done = done in (before, len(self._points))
            if all_done or self._stopped_s is not None or not self._launcher.kind.is_local:
                return
            self._display.say(say("sweep.another-round", count=len(self._points) - done))

    def _watch(self) -> None:
        asked = False
        while not self._over.wait(LOOK_EVERY_S):
            self._look()
            # From a terminal they have got the signal as well, and a second one would be one too many.
            if not asked and self._stopped_s is not None and time.monotonic() - self._stopped_s > HEARD_S:
                asked = True
                for claim in self._under_way():
                    with suppress(OSError):
                        os.kill(claim.pid, signal.SIGINT)

    def _look(self) -> None:
        """Tell what is new in the journals."""
        with self._looking:
            for part, journal in enumerate(self._journals):
                for entry in journal.news():
                    self._progress.add(entry)
                    if isinstance(entry, Outcome):
                        self._tell(entry)
                    elif isinstance(entry, Said):
                        self._display.say(say("sweep.job-says", job=max(part, entry.lane), text=entry.text))

    def _tell(self, outcome: Outcome) -> None:
        point = " ".join(self._order.points[outcome.point])
        self._display.say(f"\n[{len(self._progress.outcomes)}/{len(self._points)}] {point}")
        if outcome.folder is None:
            self._display.say(own_words(outcome.reason))
            return
        try:
            record = read_record(Path(outcome.folder) / RECORD)
        except RecordError as error:
            self._display.say(str(error))
            return
        if outcome.earlier:
            self._display.say(say("sweep.left-out", status=record.status, folder=outcome.folder))
        self._display.say("\n".join(outcome_lines(record)))
        self._rows[outcome.point] = run_row(record)

    def _under_way(self) -> list[Claim]:
        """The points that processes of this host are at."""
        last = [claims[-1] for point, claims in self._progress.claims.items() if point not in self._progress.outcomes]
        return [claim for claim in last if claim.host == platform.node() and _is_alive(claim.pid)]

    def _end(self, *, stopped: bool) -> int:
        outcomes = self._progress.outcomes
        self._display.runs([self._rows[point] for point in sorted(self._rows)])
        left_out = sum(outcome.earlier for outcome in outcomes.values())
        if left_out:
            self._display.say(say("sweep.left-out-points", count=left_out, of=len(self._points)))
        missing = [point for point in range(len(self._points)) if point not in self._rows]
        notes: list[str] = []
        if missing:
            facts = {"count": len(missing), "of": len(self._points), "points": some(self._order, missing)}
            notes = [say("sweep.missing", **facts)]
            self._display.say(notes[0])
        folders = [Path(str(outcomes[point].folder)) for point in sorted(self._rows)]
        if folders or self._report == "false":
            self._display.sweep_report(folders, self._sweep / REPORT, self._report, notes)
        statuses = {outcomes[point].status for point in self._rows}
        return exit_code(statuses | ({"interrupted"} if stopped else set()) | ({"missing"} if missing else set()))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
