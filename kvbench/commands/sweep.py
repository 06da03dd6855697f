"""A Hydra sweep: its points one after another with one worker, one report at its root."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kvbench.analysis.assemble import refused
from kvbench.commands.display import Display
from kvbench.commands.point import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_OK,
    measure_point,
    new_run_id,
    open_runner,
)
from kvbench.config.compose import Sources, load_config, sweep_points
from kvbench.config.schema import Config
from kvbench.errors import BadInput, ConfigError, RecordError
from kvbench.records.schema import RunRecord
from kvbench.records.store import REPORT, RunFolder, StoredRun
from kvbench.running.supervisor import Runner


def run_sweep(overrides: Sequence[str], where: Sources) -> int:
    """Measure every point; a refused or failed one is a record and the rest go on.

    Raises `ConfigError` when no point can be composed, `RecordError` when results cannot be written.
    """
    points = list(sweep_points(overrides, where))
    configs = [_composed(point, where) for point in points]
    first = next((config for config in configs if isinstance(config, Config)), None)
    if first is None:
        raise next(error for error in configs if isinstance(error, ConfigError))
    root = Path(first.results_dir) / f"sweep-{new_run_id()}"
    display = Display()
    runs: list[StoredRun] = []
    runner = open_runner(first)
    try:
        for number, (point, config) in enumerate(zip(points, configs, strict=True), start=1):
            display.say(f"\n[{number}/{len(points)}] {' '.join(point)}")
            runs.append(_measured(point, config, runner, root, display))
            if first.report == "true":
                display.report([runs[-1]], runs[-1].folder / REPORT, first.report)
            if runs[-1].record.status == "interrupted":
                break
    finally:
        runner.close()
    display.runs([run.record for run in runs])
    display.report(runs, root / REPORT, first.report)
    return _exit_code(run.record for run in runs)


def _composed(point: Sequence[str], where: Sources) -> Config | ConfigError:
    try:
        return load_config(point, where)
    except ConfigError as error:
        return error


def _measured(
    point: Sequence[str], config: Config | ConfigError, runner: Runner, root: Path, display: Display
) -> StoredRun:
    """The point's run, or the record of its refusal."""
    if isinstance(config, ConfigError):
        return _refusal(point, config, root, display)
    try:
        ended = measure_point(config, runner, root, display)
    except RecordError:
        raise  # a folder that cannot be written is no fault of this point
    except BadInput as error:
        return _refusal(point, error, root, display)
    if ended.measured_nothing:
        display.say(f"refused: {ended.error}")
    return StoredRun(ended.record, ended.folder.path)


def _refusal(point: Sequence[str], error: BadInput, root: Path, display: Display) -> StoredRun:
    run_id = new_run_id()
    folder = RunFolder(root, "refused", run_id)
    record = refused(point, str(error), run_id=run_id, created_at=datetime.now(UTC).isoformat())
    folder.write_record(record)
    display.say(f"refused: {error}")
    return StoredRun(record, folder.path)


def _exit_code(records: Iterable[RunRecord]) -> int:
    statuses = {record.status for record in records}
    if "interrupted" in statuses:
        return EXIT_INTERRUPTED
    if statuses - {"ok", "invalid"}:
        return EXIT_FAILED
    return EXIT_INVALID if "invalid" in statuses else EXIT_OK
