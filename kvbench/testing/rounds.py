"""What a test measured, handed to pytest-benchmark: in its table, its JSON and its comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvbench.arm import arm_names
from kvbench.records.store import StoredRun
from kvbench.report.exports.rows import BENCHMARK_GROUP, step_rounds
from kvbench.report.metrics import METRICS
from kvbench.statistics import median


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
            for seconds in step_rounds(run, arm):
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
