"""One run from the command line."""

from __future__ import annotations

from pathlib import Path

from kvbench.commands.display import Display
from kvbench.commands.point import exit_code, measure_point, open_runner
from kvbench.commands.resume import Finished
from kvbench.config.schema import Config
from kvbench.records.store import REPORT, StoredRun


def run_single(config: Config) -> int:
    """Measure, show, write the report; the exit code of the command table.

    Raises `BadInput`, with no folder left behind, when it turned out that nothing could be measured.
    """
    display = Display()
    runner = open_runner(config)
    try:
        earlier = Finished(Path(config.results_dir), runner).run_of(config) if config.resume else None
        if earlier is not None:
            display.earlier(earlier)
            return exit_code(earlier.record.status)
        ended = measure_point(config, runner, Path(config.results_dir), display)
    finally:
        runner.close()
    if ended.measured_nothing:
        assert ended.error is not None
        ended.folder.discard()
        raise ended.error
    display.report([StoredRun(ended.record, ended.folder.path)], ended.folder.path / REPORT, config.report)
    return exit_code(ended.record.status)
