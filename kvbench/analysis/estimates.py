"""From blocks to figures of one arm. One block is one sample: what lies inside it is averaged or summed first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.records.arm_figures import TokenPercentiles
from kvbench.records.part import Estimate
from kvbench.records.timings import Block, Visit
from kvbench.statistics import Interval, median, median_interval, trend

Point = TypeVar("Point")
MOST_POINTS = 400  # of a series: a chart has no pixels for more

MEDIAN = "median over blocks, exact order-statistic interval"

# Samples from which a percentile is inside the sample's range with 99 % confidence: 1 - q^n - n(1-q)q^(n-1) >= 0.99
# for the upper percentiles, two-sided; below that the figure is an accident of the extremes.
PERCENTILE_SAMPLES = {"p50": 1, "p90": 64, "p95": 130, "p99": 662}

OUTLIER_SCORE = 3.5
LEAST_FOR_OUTLIERS = 5

LEAST_FOR_DRIFT = 8  # the default; with 5 blocks even a perfect trend is a matter of chance (p = 0.017)
SIGNIFICANCE = 0.01  # of Kendall's test: one steady arm in a hundred is called drifting


@dataclass(frozen=True)
class BlockFigures:
    """One arm in one block, over all its batches, from the throughput lane."""

    ttft_s: float  # mean over the batches
    itl_s: float | None  # mean decode time per token of a sequence; None when every one ended with its first pass
    decode_tokens_per_s: float | None  # tokens of the first passes excluded: they belong to the prefill
    end_to_end_tokens_per_s: float | None
    pass_s: float | None = None  # mean time of a pass after the first, where passes make several tokens


def block_figures(blocks: Sequence[Block], arm: int) -> list[BlockFigures]:
    """One entry per block."""
    return [_figures([visit for visit in block.visits if _timed(visit, arm, "throughput")]) for block in blocks]


def estimate(samples: Sequence[float | None]) -> Estimate:
    """Median and its interval over blocks; all null when a block has no such figure."""
    known = [sample for sample in samples if sample is not None]
    if not known or len(known) < len(samples):
        return Estimate(estimator=MEDIAN, value=None, n=len(known))
    interval = median_interval(known)
    if interval is None:
        return Estimate(estimator=MEDIAN, value=median(known), n=len(known))
    return Estimate(estimator=MEDIAN, **interval_fields(interval), n=len(known))


def interval_fields(interval: Interval) -> dict[str, float]:
    """A figure's fields out of its interval."""
    return {"value": interval.value, "ci_low": interval.low, "ci_high": interval.high, "level": interval.level}


def token_percentiles(blocks: Sequence[Block], arm: int) -> TokenPercentiles:
    """Percentiles of single steps over the per-step lane of all blocks; null where there are too few steps."""
    steps = [s for block in blocks for visit in block.visits if _timed(visit, arm, "steps") for s in visit.step_s or ()]
    values = {
        name: float(np.percentile(steps, int(name[1:]))) if len(steps) >= needed else None
        for name, needed in PERCENTILE_SAMPLES.items()
    }
    return TokenPercentiles(**values, n_tokens=len(steps))


def step_lane_cost(blocks: Sequence[Block], arm: int) -> float | None:
    """What watching every step costs: median over blocks of decode time in the steps lane over throughput, minus 1."""
    return _lane_cost(blocks, arm, "steps")


def trace_cost(blocks: Sequence[Block], arm: int) -> float | None:
    """What tracing token confidence costs: the same of the trace lane; None without one."""
    return _lane_cost(blocks, arm, "trace")


def outliers(samples: Sequence[float]) -> tuple[int, ...]:
    """Places of the samples that stand out: modified z-score over 3.5 (Iglewicz and Hoaglin, 1993).

    0.6745 |x - median| / MAD; none when fewer than 5 samples or half of them are equal, for then the MAD is 0.
    """
    if len(samples) < LEAST_FOR_OUTLIERS:
        return ()
    values = np.asarray(samples, dtype=float)
    distances = np.abs(values - np.median(values))
    spread = float(np.median(distances))
    if spread == 0:
        return ()
    return tuple(int(place) for place in np.flatnonzero(0.6745 * distances / spread > OUTLIER_SCORE))


def _lane_cost(blocks: Sequence[Block], arm: int, lane: str) -> float | None:
    ratios = []
    for block in blocks:
        plain = sum(visit.decode_s for visit in block.visits if _timed(visit, arm, "throughput"))
        watched = sum(visit.decode_s for visit in block.visits if _timed(visit, arm, lane))
        if plain > 0 and watched > 0:
            ratios.append(watched / plain - 1)
    return median(ratios) if ratios else None


def _timed(visit: Visit, arm: int, lane: str) -> bool:
    return visit.arm == arm and visit.lane == lane


def _figures(visits: Sequence[Visit]) -> BlockFigures:
    decode_s = sum(visit.decode_s for visit in visits)
    ttft_s = sum(visit.ttft_s for visit in visits)
    steps = sum(visit.steps for visit in visits)
    tokens = sum(visit.new_tokens for visit in visits)
    after_first = tokens - sum(visit.first_tokens for visit in visits)
    passes = sum(len(visit.made) - 1 for visit in visits if visit.made)
    return BlockFigures(
        ttft_s=ttft_s / len(visits),
        itl_s=decode_s / steps if steps else None,
        decode_tokens_per_s=after_first / decode_s if after_first > 0 and decode_s > 0 else None,
        end_to_end_tokens_per_s=tokens / (ttft_s + decode_s) if ttft_s + decode_s > 0 else None,
        pass_s=decode_s / passes if passes else None,
    )


@dataclass(frozen=True)
class Drift:
    """A trend over blocks: `change` is the last third's median over the first third's, minus 1."""

    change: float
    tau: float
    p: float


def drift(samples: Sequence[float]) -> Drift | None:
    """The trend of one figure per block, in the order of measurement, or None when there is none to speak of.

    Kendall's rank correlation with the block's number (two-sided) must be significant, and the change relevant. It
    sees steady drift, not a single jump of one block.
    """
    if len(samples) < LEAST_FOR_DRIFT:
        return None
    test = trend(samples)
    if test is None or test.p > SIGNIFICANCE:
        return None
    third = len(samples) // 3
    begun = median(samples[:third])
    if begun <= 0:
        return None
    change = median(samples[-third:]) / begun - 1
    if abs(change) <= RELEVANT_WITHIN_A_RUN:
        return None
    return Drift(change, test.tau, test.p)


def thinned(points: Sequence[Point], kept: Iterable[int] = ()) -> list[Point]:
    """At most `MOST_POINTS` of a series and its last one, evenly spaced, and those whose indices are to be `kept`."""
    stride = -(-len(points) // MOST_POINTS) or 1
    if stride == 1:
        return list(points)
    return [points[index] for index in sorted({*range(0, len(points), stride), len(points) - 1, *kept})]
