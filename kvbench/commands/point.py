"""One run from its configuration to its folder: what a single run and a point of a sweep have in common."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kvbench.analysis.assemble import assemble
from kvbench.commands.display import Display
from kvbench.config.compose import to_yaml
from kvbench.config.schema import Config
from kvbench.errors import BadInput, KvbenchError, RecordError, RunFailed
from kvbench.plan import Plan
from kvbench.readiness.machine import ready_plan
from kvbench.records.run_record import RunRecord, Status
from kvbench.records.samples import Prepared, RunSamples
from kvbench.records.step_table import step_table
from kvbench.records.store import LOG, RunFolder
from kvbench.records.timings import Block
from kvbench.running.faults import uninterrupted
from kvbench.running.frontier import search_frontier
from kvbench.running.supervisor import InlineRunner, Message, Runner, Supervisor

EXIT_OK, EXIT_FAILED, EXIT_INVALID, EXIT_INTERRUPTED = 0, 1, 3, 130


@dataclass(frozen=True)
class Ended:
    """A run that has its record, and the error that ended it early, if one did."""

    record: RunRecord
    folder: RunFolder
    error: BaseException | None

    @property
    def measured_nothing(self) -> bool:
        """Whether bad input ended the run before anything was known; then there is nothing to keep."""
        return isinstance(self.error, BadInput) and self.record.model is None


def exit_code(status: str) -> int:
    """By the command table."""
    return {"ok": EXIT_OK, "invalid": EXIT_INVALID, "interrupted": EXIT_INTERRUPTED}.get(status, EXIT_FAILED)


def open_runner(config: Config) -> Runner:
    """A worker process, or this one, as `launch` says."""
    return InlineRunner() if config.launch == "inline" else Supervisor()


def new_run_id() -> str:
    """Sorts by time; the tail keeps two runs of one second apart."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def measure_point(
    config: Config, runner: Runner, results_dir: Path, display: Display, repeats: RunRecord | None = None
) -> Ended:
    """Measure one configuration and write its whole folder but the report.

    `repeats` is an earlier run of the same configuration, which the new record is held against.
    A run that ends early leaves its record too, with the finished blocks. Raises `BadInput`, with nothing left
    behind, when this machine lacks something (see `readiness`) or the prompts or the folder are unusable, and
    `RunFailed` when the record cannot be written.
    """
    plan = ready_plan(config)
    run_id, created_at = new_run_id(), datetime.now(UTC).isoformat()
    folder = RunFolder(results_dir, plan.name, run_id)
    samples = RunSamples()
    with display.showing(plan, folder.path / LOG):
        error = _measure(plan, runner, folder, samples, display)
        with uninterrupted():  # a second Ctrl-C must not cost the record
            record = assemble(plan, samples, run_id=run_id, created_at=created_at, ended=_ended(error), repeats=repeats)
            try:
                _write(folder, plan, samples, record)
            except RecordError as full:
                raise RunFailed(f"{full}; {len(samples.all_blocks)} finished blocks are in {folder.path}") from full
        ended = Ended(record, folder, error)
        if not ended.measured_nothing:
            display.outcome(ended.record)
    return ended


def _measure(
    plan: Plan, runner: Runner, folder: RunFolder, samples: RunSamples, display: Display
) -> BaseException | None:
    def listen(message: Message) -> None:
        display.hear(message)
        if isinstance(message, Prepared):
            folder.write_config(to_yaml(plan.config))
            folder.write_prompts(message.prompts)
        if isinstance(message, Block):
            with uninterrupted():  # a block counts when it is on the disk, and only then
                folder.append_block(message)
                samples.add(message)
        else:
            samples.add(message)

    try:
        if plan.config.frontier.axes is None:
            runner.measure(plan, folder.path / LOG, listen)
        else:
            search_frontier(plan, runner, folder.path / LOG, listen)
    except (KvbenchError, KeyboardInterrupt) as error:
        return error
    return None


def _ended(error: BaseException | None) -> tuple[Status, str] | None:
    if error is None:
        return None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "stopped by Ctrl-C; the finished blocks are kept"
    if isinstance(error, BadInput) and not isinstance(error, RecordError):
        return "refused", str(error)
    status: Status = error.status if isinstance(error, RunFailed) else "failed"  # type: ignore[assignment]
    return status, str(error)


def _write(folder: RunFolder, plan: Plan, samples: RunSamples, record: RunRecord) -> None:
    prepared = samples.prepared
    if prepared is None:  # else it was written then
        folder.write_config(to_yaml(plan.config))
    timed_steps = plan.config.measure.step_lane and samples.all_blocks
    if prepared is not None and (timed_steps or samples.traced):
        folder.write_steps(step_table(samples.all_blocks, prepared, samples.traced))
    folder.write_record(record)
