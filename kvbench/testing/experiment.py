"""One experiment from the overrides of a test: so many processes, each with its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kvbench.commands.display import Display
from kvbench.commands.point import Ended, measure_point
from kvbench.config.compose import load_config, sources
from kvbench.config.schema import Config
from kvbench.errors import ConfigError
from kvbench.printable import printable
from kvbench.readiness.machine import require_one_process
from kvbench.records.store import StoredRun
from kvbench.running.supervisor import InlineRunner, Supervisor

OURS = {"results_dir": "--kvbench-results DIR", "report": "`kvbench report DIR`", "resume": "nothing: a test measures"}


class NotMeasured(AssertionError):
    """The experiment gave no VALID run; `str()` says why, for the person whose test fails."""


def run_experiment(overrides: Sequence[str], processes: int, results_dir: Path) -> tuple[StoredRun, ...]:
    """Measure as the command line would, each time in a fresh worker process, one after the other.

    Raises `NotMeasured` when a run is not VALID, at once; `BadInput` when the overrides are refused; and
    `KeyboardInterrupt` when the run was interrupted.
    """
    config = _config(overrides, processes)
    display = Display(brief=True)
    return tuple(_measured(config, results_dir, display) for _ in range(processes))


def _config(overrides: Sequence[str], processes: int) -> Config:
    require_one_process()
    if processes < 1:
        raise ConfigError(f"processes={processes}: must be 1 or more")
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key in OURS:
            raise ConfigError(f"{key}: not a test's to say; instead there is {OURS[key]}")
    config = load_config(overrides, sources())
    if processes > 1 and config.launch == "inline":
        raise ConfigError(f"launch=inline: is one process and gives no {processes}; leave it out")
    return replace(config, report="false", resume=False)


def _measured(config: Config, results_dir: Path, display: Display) -> StoredRun:
    with InlineRunner() if config.launch == "inline" else Supervisor() as runner:
        ended = measure_point(config, runner, results_dir, display)
    if isinstance(ended.error, KeyboardInterrupt):
        raise ended.error
    if ended.measured_nothing:
        assert ended.error is not None
        ended.folder.discard()
        raise ended.error
    if not ended.record.valid:
        raise NotMeasured(_why(ended))
    return StoredRun(ended.record, ended.folder.path)


def _why(ended: Ended) -> str:
    record = ended.record
    failed = [f"  {check.name}: {check.detail}; {check.advice}" for check in record.checks if not check.passed]
    head = f"the run is {record.status.upper()}: {record.status_reason} ({ended.folder.path})"
    return "\n".join(printable(line) for line in (head, *failed))
