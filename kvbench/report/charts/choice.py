"""Which charts a page shows, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvbench.records.run_record import RunRecord
from kvbench.report.charts.comparison_charts import agreement, speed, speedup
from kvbench.report.charts.device_charts import device_timeline
from kvbench.report.charts.figures import Chart, Look
from kvbench.report.charts.length_charts import cumulative_by_law, frontier, latency_by_law
from kvbench.report.charts.limit_charts import roofline, step_time
from kvbench.report.charts.memory_charts import cache_by_context, memory_over_run, memory_stack
from kvbench.report.charts.overview_charts import speed_by_run, speedup_by_prompt
from kvbench.report.charts.series import StepSeries, block_series
from kvbench.report.charts.step_charts import cumulative_time, latency_by_context, step_distribution
from kvbench.report.names import prompt_series, run_labels
from kvbench.report.overview import Summary


def run_charts(
    record: RunRecord,
    steps: Sequence[StepSeries],
    looks: Mapping[str, Look],
    blocks: Sequence[Mapping[str, Any]] = (),
) -> tuple[Chart, ...]:
    """The charts of one run; `blocks` are the lines of its blocks.jsonl. What does not apply to the run is left out."""
    pairs = [(each.baseline_arm, each.candidate_arm) for each in record.comparisons]
    found = block_series(blocks, pairs)
    growth = record.growth
    every = (
        speedup(record, found, looks),
        speed(record, looks),
        step_time(record, looks),
        latency_by_law(record, growth, looks) if growth else latency_by_context(record, steps, looks),
        cumulative_by_law(record, growth, looks) if growth else cumulative_time(record, steps, looks),
        step_distribution(record, steps, looks),
        agreement(record, looks),
        roofline(record, looks),
        memory_stack(record),
        cache_by_context(record, looks),
        frontier(record, looks),
        device_timeline(found),
        memory_over_run(record),
    )
    return tuple(chart for chart in every if chart is not None)


def overview_charts(runs: Sequence[Summary], looks: Mapping[str, Look]) -> tuple[Chart, ...]:
    """The charts over many runs."""
    aspects = [run.aspects for run in runs]
    by_prompt = speedup_by_prompt(runs, prompt_series(aspects), looks)
    by_run = speed_by_run(runs, run_labels(aspects), looks)
    return (by_run,) if by_prompt is None else (by_prompt, by_run)
