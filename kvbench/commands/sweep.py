"""One run or a Hydra sweep of them, shown on the way: the exit code of the command table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvbench.commands import EXIT_INTERRUPTED
from kvbench.commands.validation import SweepPoint, refusal_lines
from kvbench.config.schema import Config
from kvbench.display import Display
from kvbench.errors import BadInput, ConfigError, RecordError, RunFailed
from kvbench.point import Finished, measure_point, new_run_id, open_runner, recorded_point
from kvbench.records.run_record import RunRecord
from kvbench.records.store import (
    RECORD,
    REPORT,
    StoredRun,
    make_results_dir,
    read_record,
    remove_temporary_files,
)
from kvbench.report.console import RunRow, run_row
from kvbench.report.sentences import own_words, say
from kvbench.running.faults import stopped_by_signals
from kvbench.running.supervisor import Runner

EXIT_OK, EXIT_FAILED, EXIT_INVALID = 0, 1, 3  # by the command table
MOST_TOLD = 20  # points that are told with tables and texts; of more, a line each is what anyone reads


@stopped_by_signals()
def run_single(config: Config) -> int:
    """Measure, show, write the report; the exit code of the command table.

    Raises `BadInput`, with no folder left behind, when it turned out that nothing could be measured.
    """
    display = Display()
    remove_temporary_files(Path(config.results_dir))
    runner = open_runner(config)
    try:
        earlier = Finished(Path(config.results_dir), runner).run_of(config) if config.resume else None
        if earlier is not None:
            display.earlier(earlier)
            return exit_code({earlier.record.status})
        ended = measure_point(config, runner, Path(config.results_dir), display)
    finally:
        runner.close()
    ended.require_something()
    run = StoredRun(ended.record, ended.folder.path)
    display.report([run], ended.folder.path / REPORT, config.report)
    display.track(run, config.track)
    return exit_code({ended.record.status})


@dataclass(frozen=True)
class _Point:
    """What is kept of a point once its folder is written: a sweep of thousands must not hold their records."""

    folder: Path
    status: str
    row: RunRow


def run_sweep(points: Sequence[SweepPoint]) -> int:
    """Measure every point of a validated sweep; a refused or failed one is a record and the rest go on.

    Raises `RecordError` when results cannot be written.
    """
    first = next(point.config for point in points if isinstance(point.config, Config))
    make_results_dir(Path(first.results_dir))
    with stopped_by_signals():
        remove_temporary_files(Path(first.results_dir))
        return _Sweep(first, Display(brief=len(points) > MOST_TOLD)).run(points)


class _Sweep:
    """One sweep in its folder."""

    def __init__(self, first: Config, display: Display) -> None:
        self._root = Path(first.results_dir) / f"sweep-{new_run_id()}"
        self._report = first.report
        self._display = display
        self._runner: Runner = open_runner(first)
        self._finished = Finished(Path(first.results_dir), self._runner)
        self._to_repeat: tuple[Config, Path] | None = None  # the first point that audit=true times, with its folder

    def run(self, points: Sequence[SweepPoint]) -> int:
        """Every point in its turn; the exit code."""
        refused = [point for point in points if point.refusal is not None and not self._was_measured(point)]
        for line in refusal_lines(refused, points):
            self._display.say(line)
        done: list[_Point] = []
        again: list[_Point] = []
        left_out = 0
        try:
            for number, each in enumerate(points, start=1):
                point, config = each.overrides, each.config
                self._display.say(f"\n[{number}/{len(points)}] {' '.join(point)}")
                earlier = self._finished.run_of(config) if isinstance(config, Config) else None
                if earlier is not None:
                    left_out += 1
                    self._display.say(say("sweep.left-out", status=earlier.record.status, folder=earlier.folder))
                try:
                    run = earlier or self._measured(point, config)
                except RecordError as error:
                    if not done:
                        raise  # nothing has been measured
                    raise RunFailed(f"{error}; {len(done)} of {len(points)} points have their records") from error
                done.append(_Point(run.folder, run.record.status, run_row(run.record)))
                if run.record.status == "interrupted":
                    break
                if earlier is None and self._to_repeat is None and isinstance(config, Config):
                    self._to_repeat = (config, run.folder) if _is_audited(config, run.record) else None
            else:
                again = self._audit()
        finally:
            self._runner.close()
        self._display.runs([each.row for each in (*done, *again)])
        if left_out:
            self._display.say(say("sweep.left-out-points", count=left_out, of=len(done)))
        if self._report != "false":  # a sweep that had nothing left to do has its report all the same
            self._root.mkdir(exist_ok=True)
        if self._root.exists():
            self._display.sweep_report([each.folder for each in (*done, *again)], self._root / REPORT, self._report)
        return exit_code({each.status for each in (*done, *again)})

    def _was_measured(self, point: SweepPoint) -> bool:
        return isinstance(point.config, Config) and self._finished.run_of(point.config) is not None

    def _measured(self, point: Sequence[str], config: Config | ConfigError) -> StoredRun:
        """The point's run, or the record of its refusal."""
        run, refusal = recorded_point(point, config, self._runner, self._root, self._display)
        if refusal is not None:
            self._display.say(say("sweep.refused", reason=own_words(str(refusal))))
        elif isinstance(config, Config):
            if config.report == "true":
                self._display.report([run], run.folder / REPORT, config.report)
            self._display.track(run, config.track)
        return run

    def _audit(self) -> list[_Point]:
        """The first point once more, where audit=true asks for it, and whether the sweep held still."""
        if self._to_repeat is None:
            return []
        config, folder = self._to_repeat
        self._display.say("\n" + say("sweep.audit"))
        try:
            ended = measure_point(config, self._runner, self._root, self._display, read_record(folder / RECORD))
        except RecordError:
            raise
        except BadInput as error:
            self._display.say(say("sweep.not-audited", reason=own_words(str(error))))
            return []
        if ended.record.sweep_audit is not None:
            self._display.say(own_words(ended.record.sweep_audit.detail))
        return [_Point(ended.folder.path, ended.record.status, run_row(ended.record))]


def _is_audited(config: Config, record: RunRecord) -> bool:
    """Whether a point is fit to be measured again for the sweep's audit: it was asked for, and has times."""
    return config.audit and record.status in ("ok", "invalid") and any(arm.itl_s.value for arm in record.arms)


def exit_code(statuses: set[str]) -> int:
    """Of a command whose runs ended so."""
    if "interrupted" in statuses:
        return EXIT_INTERRUPTED
    if statuses - {"ok", "invalid"}:
        return EXIT_FAILED
    return EXIT_INVALID if "invalid" in statuses else EXIT_OK
