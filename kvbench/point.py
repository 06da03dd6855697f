"""One run from its configuration to its folder: the use case behind the command line, sweeps and tests."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from kvbench.analysis.assemble import assemble, refused, unassembled
from kvbench.analysis.keys import resume_key
from kvbench.config.compose import to_yaml
from kvbench.config.schema import Config
from kvbench.errors import BadInput, ConfigError, KvbenchError, RecordError, RunFailed, reason_of
from kvbench.plan import Plan, make_plan
from kvbench.readiness import ready_plan
from kvbench.records.evidence import RunWarning
from kvbench.records.run_record import RunRecord, Status
from kvbench.records.samples import Prepared, RunSamples
from kvbench.records.step_table import step_table
from kvbench.records.store import LOG, RECORD, STEPS, RunFolder, StoredRun, finished_runs, not_known, read_record
from kvbench.records.timings import Block
from kvbench.running.faults import cause_of, uninterrupted
from kvbench.running.frontier import search_frontier
from kvbench.running.supervisor import InlineRunner, Message, Runner, Supervisor


class Watcher(Protocol):
    """Who is shown a run while it goes on."""

    def showing(self, plan: Plan, log: Path) -> AbstractContextManager[None]:
        """For the time of one run, which also writes to this log."""

    def hear(self, message: Message) -> None:
        """A message of the measurement."""

    def outcome(self, record: RunRecord) -> None:
        """The run has ended with this record."""


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

    def require_something(self) -> None:
        """Raise the error, with no folder left behind, when nothing was measured."""
        if self.measured_nothing:
            assert self.error is not None
            self.folder.discard()
            raise self.error


def open_runner(config: Config) -> Runner:
    """A worker process, or this one, as `launch` says."""
    return InlineRunner() if config.launch == "inline" else Supervisor()


def new_run_id() -> str:
    """Sorts by time; the tail keeps two runs of one second apart."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def measure_point(
    config: Config, runner: Runner, results_dir: Path, watcher: Watcher, repeats: RunRecord | None = None
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
    with watcher.showing(plan, folder.path / LOG):
        error = _measure(plan, runner, folder, samples, watcher)
        with uninterrupted():  # a second Ctrl-C must not cost the record
            record = _record(plan, samples, folder, _ended(error), run_id, created_at, repeats)
            try:
                write_end(folder, plan, samples, record)
            except RecordError as full:
                kept = "the record and " if (folder.path / RECORD).exists() else ""
                kept += f"{len(samples.all_blocks)} finished blocks are in {folder.path}"
                raise RunFailed(f"{full}; {kept}") from full
        ended = Ended(record, folder, error)
        if not ended.measured_nothing:
            watcher.outcome(ended.record)
    return ended


def recorded_point(
    overrides: Sequence[str], config: Config | ConfigError, runner: Runner, results_dir: Path, watcher: Watcher
) -> tuple[StoredRun, BadInput | None]:
    """A sweep's point, which has a record however it ends, and why it was refused, if it was.

    A configuration that could not be loaded is its own refusal. Raises `RecordError` when the folder cannot be written,
    which is no fault of the point, and `RunFailed` when its record cannot.
    """
    refusal: BadInput
    if isinstance(config, ConfigError):
        refusal = config
    else:
        try:
            ended = measure_point(config, runner, results_dir, watcher)
        except RecordError:
            raise
        except BadInput as error:
            refusal = error
        else:
            nothing = ended.error if ended.measured_nothing and isinstance(ended.error, BadInput) else None
            return StoredRun(ended.record, ended.folder.path), nothing
    run_id = new_run_id()
    folder = RunFolder(results_dir, "refused", run_id)
    record = refused(overrides, str(refusal), run_id=run_id, created_at=datetime.now(UTC).isoformat())
    folder.write_record(record)
    return StoredRun(record, folder.path), refusal


def _measure(
    plan: Plan, runner: Runner, folder: RunFolder, samples: RunSamples, watcher: Watcher
) -> BaseException | None:
    def listen(message: Message) -> None:
        watcher.hear(message)
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
    except Exception as error:  # what was measured before it has its record all the same
        return RunFailed(f"a defect of kvbench: {_traced(error, folder.path / LOG)}")
    return None


def _traced(error: Exception, log: Path) -> str:
    """An error in a sentence, with its traceback in the run's log."""
    with suppress(OSError), log.open("a", encoding="utf-8", errors="replace") as file:
        file.write("".join(traceback.format_exception(error)))
    return f"{type(error).__name__}: {reason_of(error)} (traceback in {LOG})"


def _record(
    plan: Plan,
    samples: RunSamples,
    folder: RunFolder,
    ended: tuple[Status, str] | None,
    run_id: str,
    created_at: str,
    repeats: RunRecord | None,
) -> RunRecord:
    """The run's record. A defect in making figures must not cost what was measured: then there is one without them."""
    try:
        return assemble(plan, samples, run_id=run_id, created_at=created_at, ended=ended, repeats=repeats)
    except Exception as error:
        where = _traced(error, folder.path / LOG)
        before = f"; before it, {ended[0]}: {ended[1]}" if ended else ""
        reason = f"measured, but no figures could be made of it, which is a defect of kvbench: {where}{before}"
        return unassembled(plan, samples, reason, run_id=run_id, created_at=created_at)


def _ended(error: BaseException | None) -> tuple[Status, str] | None:
    if error is None:
        return None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", f"stopped by {cause_of(error)}; the finished blocks are kept"
    if isinstance(error, BadInput) and not isinstance(error, RecordError):
        return "refused", str(error)
    status: Status = error.status if isinstance(error, RunFailed) else "failed"  # type: ignore[assignment]
    return status, str(error)


def write_end(folder: RunFolder, plan: Plan, samples: RunSamples, record: RunRecord) -> None:
    """All files that are still to be written, the record last: where it is, the others are.

    Steps that cannot be written cost themselves and an error, and the record says so. Raises `RecordError`.
    """
    prepared = samples.prepared
    if prepared is None:  # else it was written then
        folder.write_config(to_yaml(plan.config))
    timed_steps = plan.config.measure.step_lane and samples.all_blocks
    lost: RecordError | None = None
    if prepared is not None and (timed_steps or samples.traced):
        try:
            folder.write_steps(step_table(samples.all_blocks, prepared, samples.traced, run_id=record.run_id))
        except RecordError as error:
            lost = error
        except Exception as error:  # memory that does not suffice for the library, for one
            lost = RecordError(f"{folder.path / STEPS}: cannot write ({reason_of(error)})")
    if lost is not None:
        warning = RunWarning(code="no_steps", detail=f"the table of single steps is missing: {lost}")
        record = record.model_copy(update={"warnings": (*record.warnings, warning)})
    folder.write_record(record)
    if lost is not None:
        raise lost


class Finished:
    """The runs below a folder that came to their end, as they were when first asked for, by `resume_key`."""

    def __init__(self, results_dir: Path, runner: Runner) -> None:
        self._results_dir = results_dir
        self._runner = runner
        self._environments: dict[tuple[bool, str, int | None], dict[str, Any]] = {}

    @cached_property
    def _folders(self) -> dict[str, Path]:
        # Once: what this very sweep measures is not measured before it.
        return finished_runs(self._results_dir)

    def run_of(self, config: Config) -> StoredRun | None:
        """The finished run of this very configuration, code and environment; None when it is to be measured."""
        if config.resume is False or not self._folders:
            return None
        try:
            plan = make_plan(config)
        except BadInput:
            return None  # refused in its turn
        place = (config.model.weights == "scripted", config.device, config.threads)
        environment = self._environments.get(place) or self._runner.survey(plan)
        if environment:  # what could not be told once may be told the next time
            self._environments[place] = environment
        folder = self._folders.get(resume_key(plan, environment)) if environment else None
        if folder is None:
            return None
        try:
            return StoredRun(read_record(folder / RECORD), folder)
        except RecordError as error:
            if isinstance(error.__cause__, OSError):  # the disk: the point may well be finished
                raise not_known(error) from error
            return None  # damaged since: measured again
