"""A measurement inside somebody's own test: what the pytest plugin does, without pytest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kvbench.analysis.regression import LEAST_PROCESSES, RegressionRow, gate, kind_of
from kvbench.arm import arm_names
from kvbench.config.compose import load_config, sources
from kvbench.config.schema import Config
from kvbench.display import Display
from kvbench.errors import ConfigError, RecordError
from kvbench.point import Ended, Watcher, measure_point, open_runner
from kvbench.readiness import require_one_process
from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun, find_runs, read_blocks
from kvbench.report.exports.formats import regression_markdown, regression_summary
from kvbench.report.exports.rows import BENCHMARK_GROUP, step_rounds
from kvbench.report.metrics import METRICS
from kvbench.statistics import median
from kvbench.text import printable

# One experiment from the overrides of a test: so many processes, each with its run folder.


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


def _measured(config: Config, results_dir: Path, watcher: Watcher) -> StoredRun:
    with closing(open_runner(config)) as runner:
        ended = measure_point(config, runner, results_dir, watcher)
    ended.require_something()
    if isinstance(ended.error, KeyboardInterrupt):
        raise ended.error
    if not ended.record.valid:
        raise NotMeasured(_why(ended))
    return StoredRun(ended.record, ended.folder.path)


def _why(ended: Ended) -> str:
    record = ended.record
    failed = [f"  {check.name}: {check.detail}; {check.advice}" for check in record.checks if not check.passed]
    head = f"the run is {record.status.upper()}: {record.status_reason} ({ended.folder.path})"
    return "\n".join(printable(line) for line in (head, *failed))


# What the tests of one session measured, and how it stands against a baseline.


class Regressed(AssertionError):
    """What a test measured is slower than the baseline, or cannot be told not to be; `str()` says what to do."""


@dataclass(frozen=True)
class Baseline:
    """The runs that tests are held against, and the band within which a change counts as none."""

    path: Path
    runs: tuple[RunRecord, ...]
    relevance: float

    @classmethod
    def read(cls, path: Path, relevance: float) -> Baseline:
        """Search a folder for runs. Raises `RecordError` when it is missing, holds none, or holds one unreadable."""
        found = find_runs([path])
        if found.unreadable:
            raise RecordError(str(found.unreadable[0]))
        if not found.runs:
            raise RecordError(f"{path}: no usable run")
        return cls(path, tuple(run.record for run in found.runs), relevance)


@dataclass
class RegressionSession:
    """Judges each call of a test against the baseline, and keeps the rows for the table at the end."""

    baseline: Baseline
    tests: int = 1  # that measure in this session: each is a chance of a false alarm
    rows: list[RegressionRow] = field(default_factory=list)

    def judge(self, runs: Sequence[StoredRun]) -> None:
        """Raise `Regressed` unless every arm is known to be no slower than in the baseline."""
        new = [run.record for run in runs]
        keys = {kind_of(record) for record in new}
        known = {kind_of(run) for run in self.baseline.runs}
        # With no counterpart the whole baseline goes in, so that the row can tell what differs.
        base = [run for run in self.baseline.runs if kind_of(run) in keys or not keys & known]
        among = self.tests * len(new[0].arms)
        judged = gate(base, new, self.baseline.relevance, among=among)
        rows = [row for row in judged if kind_of(row.example) in keys]
        self.rows += rows
        refused = [row for row in rows if not row.passes]
        if refused:
            raise Regressed("\n".join(map(self._told, refused)))

    def table(self) -> str:
        """The rows of all tests as Markdown, the verdict over them, and what of the baseline was not measured."""
        missing = {kind_of(run) for run in self.baseline.runs} - {kind_of(row.example) for row in self.rows}
        text = f"{regression_markdown(self.rows)}\n{regression_summary(self.rows, self.baseline.relevance)}\n"
        return text + (f"Not measured in this session: {len(missing)} kind(s) of the baseline.\n" if missing else "")

    def _told(self, row: RegressionRow) -> str:
        arm = "all arms" if row.arm is None else arm_names(row.example.arms)[row.arm]
        ratio = row.ratio and f" {row.ratio.value:.3f}× [{row.ratio.low:.3f}, {row.ratio.high:.3f}] as fast as before"
        reason = f": {row.reason}" if row.reason else ""
        where = printable(str(self.baseline.path))
        return f"{arm}: {row.verdict}{ratio or ''} against {where}{reason}{_regression_remedy(row)}"


def _regression_remedy(row: RegressionRow) -> str:
    if row.verdict == "INVALID":
        return "; measure the baseline again on this machine with --kvbench-results, in a new folder"
    if row.verdict == "AMBIGUOUS":
        most = max(row.base_processes, row.new_processes, LEAST_PROCESSES)
        return f"; ask for more with --kvbench-processes (a side had {most} at most), the baseline alike"
    return ""


# What a test measured, handed to pytest-benchmark: in its table, its JSON and its comparisons.


@dataclass
class _Measured:
    """What pytest-benchmark reads of the fixture behind a benchmark."""

    name: str
    fullname: str
    group: str
    param: str | None
    params: Mapping[str, Any] | None
    extra_info: dict[str, Any]
    cprofile_stats: None = None
    has_error: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def benchmarks(
    runs: Sequence[StoredRun],
    *,
    name: str,
    fullname: str,
    group: str | None,
    param: str | None,
    params: Mapping[str, Any] | None,
) -> list[Any]:
    """One `pytest_benchmark.stats.Metadata` per arm; its rounds are the mean decode steps of all blocks of all runs."""
    from pytest_benchmark.stats import Metadata

    made = []
    for arm, label in enumerate(arm_names(runs[0].record.arms)):
        measured = _Measured(
            name=f"{name} {label}",
            fullname=f"{fullname} {label}",
            group=group or BENCHMARK_GROUP,
            param=param,
            params=params,
            extra_info=_figures(runs, arm),
        )
        benchmark = Metadata(measured, iterations=1, options=measured.options)
        for run in runs:
            for seconds in step_rounds(read_blocks(run.folder), arm):
                benchmark.update(seconds)
        if benchmark:
            made.append(benchmark)
    return made


def _figures(runs: Sequence[StoredRun], arm: int) -> dict[str, Any]:
    """The identity of the runs, and of every metric the median over them."""
    figures: dict[str, Any] = {
        "run_id": " ".join(run.record.run_id for run in runs),
        "compare_key": runs[0].record.keys.compare_key,
        "processes": len(runs),
    }
    for metric in METRICS:
        values = [metric.value(run.record.arms[arm]) for run in runs]
        known = [value for value in values if value is not None]
        figures[metric.key] = median(known) if len(known) == len(values) else None
    return figures
