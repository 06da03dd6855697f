"""Intervals (Student's t on log-ratios, order statistics for medians) and Kendall's test of a trend.

Pure functions of samples, one per block. scipy.stats is not used: it costs the parent of every run 46 MiB.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its `special` is imported when it is first asked for: a worker that asks nothing starts sooner
from numpy.typing import NDArray

LEVEL = 0.95
MOST_FOR_EXACT_TREND = 33  # above, the normal approximation of Kendall's test is as good


@dataclass(frozen=True)
class Interval:
    """A figure with its interval and the coverage it attains."""

    value: float
    low: float
    high: float
    level: float


def ratio_interval(ratios: Sequence[float], level: float = LEVEL) -> Interval:
    """Geometric mean of paired ratios with a two-sided Student-t interval on their logs.

    Needs at least 2 positive ratios, else raises `ValueError`. With no variance the interval is the point itself.
    """
    if len(ratios) < 2:
        raise ValueError("an interval needs at least 2 ratios")
    if min(ratios) <= 0:
        raise ValueError("ratios must be positive")
    logs = np.log(np.asarray(ratios, dtype=float))
    n = len(logs)
    centre = float(logs.mean())
    half = float(scipy.special.stdtrit(n - 1, 0.5 + level / 2)) * float(logs.std(ddof=1)) / math.sqrt(n)
    return Interval(math.exp(centre), math.exp(centre - half), math.exp(centre + half), level)


def independent_ratio_interval(baseline: Sequence[float], candidate: Sequence[float], level: float = LEVEL) -> Interval:
    """Candidate over baseline of two independent groups: geometric means, Welch's t interval on the logs.

    Degrees of freedom by Welch and Satterthwaite. Needs 2 positive values a side, else raises `ValueError`. With no
    variance on either side the interval is the point itself.
    """
    if min(len(baseline), len(candidate)) < 2:
        raise ValueError("an interval needs at least 2 values a side")
    if min(*baseline, *candidate) <= 0:
        raise ValueError("values must be positive")
    old, new = (np.log(np.asarray(values, dtype=float)) for values in (baseline, candidate))
    centre = float(new.mean() - old.mean())
    shares = [float(logs.var(ddof=1)) / len(logs) for logs in (old, new)]
    variance = sum(shares)
    half = 0.0
    if variance > 0:
        freedom = variance**2 / sum(share**2 / (len(logs) - 1) for share, logs in zip(shares, (old, new), strict=True))
        half = float(scipy.special.stdtrit(freedom, 0.5 + level / 2)) * math.sqrt(variance)
    return Interval(math.exp(centre), math.exp(centre - half), math.exp(centre + half), level)


def mean_interval(samples: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean with a two-sided Student-t interval. Needs at least 2 samples, else raises `ValueError`."""
    if len(samples) < 2:
        raise ValueError("an interval needs at least 2 samples")
    values = np.asarray(samples, dtype=float)
    centre = float(values.mean())
    half = (
        float(scipy.special.stdtrit(len(values) - 1, 0.5 + level / 2))
        * float(values.std(ddof=1))
        / math.sqrt(len(values))
    )
    return Interval(centre, centre - half, centre + half, level)


def mean_intervals(samples: NDArray[np.floating[Any]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """`mean_interval` of every column of (samples, columns) at `LEVEL`: means, lower and upper ends."""
    n = len(samples)
    if n < 2:
        raise ValueError("an interval needs at least 2 samples")
    centre = samples.mean(axis=0)
    half = float(scipy.special.stdtrit(n - 1, 0.5 + LEVEL / 2)) * samples.std(axis=0, ddof=1) / math.sqrt(n)
    return centre, centre - half, centre + half


def slope_interval(x: Sequence[float], y: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Least-squares slope of `y` over `x` with a Student-t interval that allows for errors of unequal size.

    The variance is HC3 (MacKinnon and White, 1985): residuals over one less their leverage. None with fewer than three
    points, or where all `x` are equal.
    """
    across, values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = len(across)
    centred = across - across.mean() if n else across
    spread = float((centred**2).sum())
    if n < 3 or spread == 0:
        return None
    slope = float((centred * (values - values.mean())).sum()) / spread
    residuals = values - values.mean() - slope * centred
    free = np.maximum(1 - 1 / n - centred**2 / spread, 1e-9)  # a point that alone decides the slope has none
    error = math.sqrt(float(((centred * residuals / free) ** 2).sum())) / spread
    half = float(scipy.special.stdtrit(n - 2, 0.5 + level / 2)) * error
    return Interval(slope, slope - half, slope + half, level)


def median_interval(samples: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Median with the exact order-statistic interval (x_(k), x_(n+1-k)), distribution-free.

    Its coverage is 1 - 2 P(Binomial(n, 1/2) < k); k is the largest with coverage of at least `level`, so the level
    attained is usually higher (n = 8: 99.2 %). None when even the sample's extremes cover less (n < 6 at 95 %).
    """
    ordered = sorted(samples)
    n = len(ordered)
    rank = 0
    while rank + 1 <= n // 2 and 1 - 2 * float(scipy.special.bdtr(rank, n, 0.5)) >= level:
        rank += 1
    if rank == 0:
        return None
    coverage = 1 - 2 * float(scipy.special.bdtr(rank - 1, n, 0.5))
    return Interval(median(ordered), ordered[rank - 1], ordered[n - rank], coverage)


def median(samples: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones. Raises `ValueError` on no samples."""
    if not samples:
        raise ValueError("the median of no samples")
    return float(np.median(np.asarray(samples, dtype=float)))


def geometric_mean(ratios: Sequence[float]) -> float:
    """exp of the mean log; the point estimate of a ratio when one sample leaves no interval."""
    return float(np.exp(np.log(np.asarray(ratios, dtype=float)).mean()))


@dataclass(frozen=True)
class Trend:
    """Kendall's rank correlation (tau-b) of samples with their order, and its two-sided p-value."""

    tau: float
    p: float


def trend(samples: Sequence[float]) -> Trend | None:
    """Kendall's test against "the order says nothing"; None when all samples are equal, or fewer than two.

    The p-value is exact up to 33 samples without ties and where at most one pair is out of order; otherwise it is the
    normal approximation with its correction for ties.
    """
    n = len(samples)
    pairs = n * (n - 1) // 2
    sizes = [size for size in Counter(samples).values() if size > 1]
    tied = sum(size * (size - 1) // 2 for size in sizes)
    if tied == pairs:
        return None
    falling = _falling_pairs(samples)
    score = pairs - tied - 2 * falling  # rising pairs minus falling ones
    tau = score / math.sqrt(pairs) / math.sqrt(pairs - tied)
    tau = min(1.0, max(-1.0, tau))
    fewest = min(falling, pairs - falling)
    if not tied and (n <= MOST_FOR_EXACT_TREND or fewest <= 1):
        return Trend(tau, _exact_trend_p(n, fewest))
    ties = sum(size * (size - 1) * (2 * size + 5) for size in sizes)
    variance = (n * (n - 1) * (2 * n + 5) - ties) / 18
    return Trend(tau, 2 * float(scipy.special.ndtr(-abs(score) / math.sqrt(variance))))


def _falling_pairs(samples: Sequence[float]) -> int:
    """Pairs of which the later sample is the smaller one."""
    before: list[float] = []
    falling = 0
    for sample in samples:
        falling += len(before) - bisect_right(before, sample)
        insort(before, sample)
    return falling


def _exact_trend_p(n: int, fewest: int) -> float:
    """Twice the share of the orders of n different samples with at most `fewest` pairs out of order, at most 1."""
    counts = [1] + [0] * fewest  # orders of the first samples, by how many of their pairs are out of order
    for size in range(2, n + 1):
        counts = [sum(counts[max(0, pairs - size + 1) : pairs + 1]) for pairs in range(fewest + 1)]
    return min(1.0, 2 * sum(counts) / math.factorial(n))
