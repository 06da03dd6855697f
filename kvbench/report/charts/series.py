"""What the charts draw: series taken from a run's per-step table, cut to what a page can carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kvbench.records.step_table import lane_rows
from kvbench.records.timings import DeviceReading, limits_between

if TYPE_CHECKING:
    import pyarrow

# More than a chart has pixels for; a page over fifty runs stays a few MB with these.
MOST_LINE_POINTS = 400
MOST_FAINT_POINTS = 600
QUANTILES = 200


@dataclass(frozen=True)
class StepSeries:
    """Decode steps of one arm, seconds.

    `median_s` is the median over blocks and batches at each of `context_length`, `elapsed_s` the sum of the medians up
    to there; `point_*` are single steps, at most `MOST_FAINT_POINTS` of them evenly spaced; a share `quantile` of all
    steps took at most `quantile_s`.
    """

    arm: int
    steps: int
    context_length: list[int]
    median_s: list[float]
    elapsed_s: list[float]
    point_context_length: list[int]
    point_s: list[float]
    quantile: list[float]
    quantile_s: list[float]


def step_series(table: pyarrow.Table | None, arms: int) -> tuple[StepSeries, ...]:
    """One series per arm that has steps in a run's per-step table (see `records.step_table`); none without a table."""
    if table is None:
        return ()
    table = lane_rows(table, "steps")
    arm_of = table["arm"].to_numpy()
    context_of = table["context_length"].to_numpy()
    latency_of = table["latency_s"].to_numpy()
    series = []
    for arm in range(arms):
        mine = arm_of == arm
        if mine.any():
            series.append(_series(arm, context_of[mine], latency_of[mine]))
    return tuple(series)


@dataclass(frozen=True)
class DevicePoint:
    """What the device's sensors said at one end of a block; `position` counts blocks."""

    position: float
    sm_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None


@dataclass(frozen=True)
class BlockSeries:
    """A run's blocks: the decode speed-up of each pair of arms in every block, and the device's readings around them.

    `ratios` holds, for arms (baseline, candidate), one ratio per block that figures are made of. `limited` and
    `throttled` are the causes by block index, `repeated` the blocks that another stands for.
    """

    ratios: dict[tuple[int, int], list[float]]
    points: list[DevicePoint]
    limited: dict[int, tuple[str, ...]]
    throttled: dict[int, tuple[str, ...]]
    repeated: tuple[int, ...]
    count: int


def block_series(blocks: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[int, int]]) -> BlockSeries:
    """From the lines of blocks.jsonl (see `records.timings.Block`); `pairs` are (baseline, candidate) arms."""
    replaced = {block.get("repeats") for block in blocks}
    ratios: dict[tuple[int, int], list[float]] = {pair: [] for pair in pairs}
    points, limited, throttled = [], {}, {}
    for block in blocks:
        index = int(block["index"])
        if index not in replaced:
            rates = _rates(block)
            for pair, known in ratios.items():
                if pair[0] in rates and pair[1] in rates:
                    known.append(rates[pair[1]] / rates[pair[0]])
        before, after = (_reading(block.get(name)) for name in ("device_before", "device_after"))
        points += [
            DevicePoint(index + share, reading.sm_clock_mhz, reading.power_w, reading.temperature_c)
            for share, reading in ((0.0, before), (1.0, after))
            if reading is not None
        ]
        if causes := limits_between(before, after, float(block["elapsed_s"])):
            limited[index] = causes
        if causes := tuple(block.get("throttled") or ()):
            throttled[index] = causes
    repeated = tuple(sorted(index for index in replaced if index is not None))
    return BlockSeries(ratios, points, limited, throttled, repeated, len(blocks))


def _rates(block: Mapping[str, Any]) -> dict[int, float]:
    """Decode tokens/s by arm, of the throughput lane."""
    tokens: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for visit in block["visits"]:
        if visit["lane"] == "throughput":
            arm = visit["arm"]
            tokens[arm] = tokens.get(arm, 0) + visit["new_tokens"] - visit["sequences"]
            seconds[arm] = seconds.get(arm, 0.0) + visit["decode_s"]
    return {arm: count / seconds[arm] for arm, count in tokens.items() if count and seconds[arm]}


def _reading(reading: Mapping[str, Any] | None) -> DeviceReading | None:
    if reading is None:
        return None
    limits = reading.get("limits")
    return DeviceReading(
        sm_clock_mhz=reading.get("sm_clock_mhz"),
        power_w=reading.get("power_w"),
        temperature_c=reading.get("temperature_c"),
        limits=None if limits is None else tuple(limits),
        limited_s=reading.get("limited_s"),
    )


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the indices 0 … count - 1, evenly spaced, both ends included."""
    if count <= most:
        return list(range(count))
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _series(arm: int, context: np.ndarray, latency: np.ndarray) -> StepSeries:
    lengths, group = np.unique(context, return_inverse=True)
    order = np.argsort(group, kind="stable")
    medians = _medians(latency[order], np.bincount(group))
    elapsed = np.cumsum(medians)
    line = evenly(len(lengths), MOST_LINE_POINTS)
    points = evenly(len(latency), MOST_FAINT_POINTS)
    shares = np.linspace(0, 1, min(QUANTILES, len(latency)) + 1)
    return StepSeries(
        arm=arm,
        steps=len(latency),
        context_length=[int(lengths[index]) for index in line],
        median_s=[medians[index] for index in line],
        elapsed_s=[float(elapsed[index]) for index in line],
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
