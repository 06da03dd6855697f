"""Which charts a page shows, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvbench.records.schema import RunRecord
from kvbench.report.figures import Chart
from kvbench.report.memory_charts import cache_by_context, memory_over_run
from kvbench.report.names import prompt_series, run_labels
from kvbench.report.overview import Summary
from kvbench.report.overview_charts import speed_by_run, speedup_by_prompt
from kvbench.report.palette import Look
from kvbench.report.series import StepSeries
from kvbench.report.speed_charts import speed
from kvbench.report.step_charts import latency_by_context, step_distribution


def run_charts(record: RunRecord, steps: Sequence[StepSeries], looks: Mapping[str, Look]) -> tuple[Chart, ...]:
    """The charts of one run."""
    return (
        speed(record, looks),
        latency_by_context(record, steps, looks),
        step_distribution(record, steps, looks),
        cache_by_context(record, looks),
        memory_over_run(record),
    )


def overview_charts(runs: Sequence[Summary], looks: Mapping[str, Look]) -> tuple[Chart, ...]:
    """The charts over many runs."""
    aspects = [run.aspects for run in runs]
    by_prompt = speedup_by_prompt(runs, prompt_series(aspects), looks)
    by_run = speed_by_run(runs, run_labels(aspects), looks)
    return (by_run,) if by_prompt is None else (by_prompt, by_run)
