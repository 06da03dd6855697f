"""Which charts a page shows, in the order in which they are read, and which of them answers what the run asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvbench.records.run_record import RunRecord
from kvbench.report.changes import Changes
from kvbench.report.charts.change_charts import change, trend
from kvbench.report.charts.comparison_charts import agreement, speed, speedup
from kvbench.report.charts.device_charts import device_timeline
from kvbench.report.charts.figures import Chart, Look
from kvbench.report.charts.length_charts import cumulative_by_law, frontier, latency_by_law
from kvbench.report.charts.limit_charts import roofline, step_time
from kvbench.report.charts.memory_charts import cache_by_context, memory_over_run, memory_stack
from kvbench.report.charts.overview_charts import speed_by_run, speedup_by_prompt
from kvbench.report.charts.rescore_chart import rescored
from kvbench.report.charts.series import StepSeries, block_series
from kvbench.report.charts.step_charts import cumulative_time, latency_by_context, step_distribution, turns
from kvbench.report.names import prompt_series
from kvbench.report.overview import Summary
from kvbench.report.verdicts import Kind, run_kind

# The one chart of the first screen, by the kind of run.
ANSWERS: Mapping[Kind, str] = {
    "sizes": "frontier",
    "break-even": "latency",
    "turns": "turns",
    "speed-up": "latency",
    "one arm": "latency",
}
INSTEAD = ("speedup", "speed")  # where the answer's chart has nothing to draw
# Where the others stand: the part of the page by the chart's key.
PLACES = {
    "cache": "memory",
    "memory-stack": "memory",
    "latency": "speed",
    "turns": "turns",
    "frontier": "sizes",
    "speedup": "speed",
    "speed": "speed",
    "step-time": "speed",
    "cumulative": "speed",
    "distribution": "speed",
    "roofline": "speed",
    "agreement": "output",
    "rescore": "output",
    "device": "machine",
    "memory": "machine",
}


def run_charts(
    record: RunRecord,
    steps: Sequence[StepSeries],
    looks: Mapping[str, Look],
    blocks: Sequence[Mapping[str, Any]] = (),
) -> tuple[Chart, ...]:
    """The charts of one run, the one that answers it first; what does not apply to the run is left out.

    `blocks` are the lines of its blocks.jsonl.
    """
    pairs = [(each.baseline_arm, each.candidate_arm) for each in record.comparisons]
    found = block_series(blocks, pairs)
    growth = record.growth
    every = (
        latency_by_law(record, growth, looks) if growth else latency_by_context(record, steps, looks),
        frontier(record, looks),
        turns(record, looks),
        cache_by_context(record, looks),
        memory_stack(record),
        speedup(record, found, looks),
        speed(record, looks),
        step_time(record, looks),
        cumulative_by_law(record, growth, looks) if growth else cumulative_time(record, steps, looks),
        step_distribution(record, steps, looks),
        roofline(record, looks),
        agreement(record, looks),
        rescored(record, looks),
        device_timeline(found),
        memory_over_run(record),
    )
    first = ANSWERS[run_kind(record)]
    return tuple(sorted((chart for chart in every if chart is not None), key=lambda chart: chart.key != first))


def answer_chart(record: RunRecord, charts: Sequence[Chart]) -> Chart | None:
    """The one that answers the run, of its charts; None where none of them has anything to draw."""
    wanted = (ANSWERS[run_kind(record)], *INSTEAD) if record.arms else ()
    if any(each.agreement.verdict == "MISMATCH" for each in record.comparisons):
        wanted = ("agreement", *wanted)
    drawn = {chart.key: chart for chart in charts if chart.figure is not None}
    return next((drawn[key] for key in wanted if key in drawn), None)


def overview_charts(runs: Sequence[Summary], labels: Sequence[str], looks: Mapping[str, Look]) -> tuple[Chart, ...]:
    """The charts over many runs, each with its label."""
    aspects = [run.aspects for run in runs]
    every = (
        speedup_by_prompt(runs, _series(runs, prompt_series(aspects)), looks),
        trend(runs, looks),
        speed_by_run(runs, labels, looks),
    )
    return tuple(chart for chart in every if chart is not None)


def _series(runs: Sequence[Summary], names: Sequence[str]) -> tuple[str, ...]:
    """The names with what else the runs differ in, so that a line joins only like ones."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.likeness:
            values.setdefault(key, set()).add(value)
    varying = {key for key, found in values.items() if len(found) > 1}
    if not varying:
        return tuple(names)
    return tuple(
        " · ".join(filter(None, (name, *(f"{key} {value}" for key, value in run.likeness if key in varying))))
        for name, run in zip(names, runs, strict=True)
    )


def change_charts(changes: Sequence[Changes]) -> tuple[Chart | None, ...]:
    """The chart of each folder against the first; None where nothing was compared."""
    return tuple(change(each, number) for number, each in enumerate(changes, start=1))
