"""What the charts draw: series taken from a run's per-step table, cut to what a page can carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow

# More than a chart has pixels for; a page over fifty runs stays a few MB with these.
MAX_LINE_POINTS = 400
MAX_FAINT_POINTS = 600
QUANTILES = 200


@dataclass(frozen=True)
class StepSeries:
    """Decode steps of one arm, seconds.

    `median_s` is the median over blocks and batches at each of `context_length`; `point_*` are single steps, at most
    `MAX_FAINT_POINTS` of them evenly spaced; a share `quantile` of all steps took at most `quantile_s`.
    """

    arm: int
    steps: int
    context_length: list[int]
    median_s: list[float]
    point_context_length: list[int]
    point_s: list[float]
    quantile: list[float]
    quantile_s: list[float]


def step_series(table: pyarrow.Table, arms: int) -> tuple[StepSeries, ...]:
    """One series per arm that has steps in the table (columns: see `records.steps`)."""
    arm_of = table["arm"].to_numpy()
    context_of = table["context_length"].to_numpy()
    latency_of = table["latency_s"].to_numpy()
    series = []
    for arm in range(arms):
        mine = arm_of == arm
        if mine.any():
            series.append(_series(arm, context_of[mine], latency_of[mine]))
    return tuple(series)


def thinned(count: int, most: int) -> list[int]:
    """At most `most` of the indices 0 … count - 1, evenly spaced, both ends included."""
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _series(arm: int, context: np.ndarray, latency: np.ndarray) -> StepSeries:
    lengths, group = np.unique(context, return_inverse=True)
    order = np.argsort(group, kind="stable")
    medians = _medians(latency[order], np.bincount(group))
    line = thinned(len(lengths), MAX_LINE_POINTS)
    points = thinned(len(latency), MAX_FAINT_POINTS)
    shares = np.linspace(0, 1, min(QUANTILES, len(latency)) + 1)
    return StepSeries(
        arm=arm,
        steps=len(latency),
        context_length=[int(lengths[index]) for index in line],
        median_s=[medians[index] for index in line],
        point_context_length=context[points].tolist(),
        point_s=latency[points].tolist(),
        quantile=shares.tolist(),
        quantile_s=np.quantile(latency, shares).tolist(),
    )


def _medians(latency: np.ndarray, counts: np.ndarray) -> list[float]:
    """Of consecutive groups of so many; at once where all are as large, as they are with one batch."""
    if counts.min() == counts.max():
        medians: list[float] = np.median(latency.reshape(len(counts), -1), axis=1).tolist()
        return medians
    return [float(np.median(samples)) for samples in np.split(latency, np.cumsum(counts)[:-1])]
