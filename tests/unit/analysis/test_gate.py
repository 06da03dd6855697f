"""The gate's interval covers what it says, from the fewest processes that make a verdict on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from shares import too_few

from kvbench.statistics import independent_ratio_interval

RUNS = 4000
CASES = [(5, 5, 1.0), (5, 5, 3.0), (5, 12, 1.0), (12, 5, 4.0), (20, 20, 1.0)]


def hits(before: int, after: int, spread: float) -> int:
    """Intervals that hold the true ratio of 1; noise of 2 % before, `spread` times as much after."""
    dice = np.random.default_rng([before, after, round(spread * 10)])
    found = 0
    for _ in range(RUNS):
        interval = independent_ratio_interval(
            np.exp(dice.normal(0, 0.02, before)).tolist(), np.exp(dice.normal(0, 0.02 * spread, after)).tolist()
        )
        found += interval.low <= 1 <= interval.high
    return found


# Welch's interval is approximate: with 5 a side and unequal spreads it covers 94.5 %.
@pytest.mark.parametrize(("before", "after", "spread"), CASES)
def test_the_interval_covers_its_level(before: int, after: int, spread: float) -> None:
    assert not too_few(hits(before, after, spread), RUNS, 0.94, checks=len(CASES))


def test_the_interval_is_welch_s() -> None:
    # by hand: logs 0, 2 and 1, 3, 5: means 1 and 3, variances 2 and 4, shares 1 and 4/3, 2.88 degrees of freedom
    interval = independent_ratio_interval([1.0, math.e**2], [math.e, math.e**3, math.e**5])
    share = 1 + 4 / 3
    freedom = share**2 / (1 / 1 + (4 / 3) ** 2 / 2)
    from scipy.stats import t

    half = t.ppf(0.975, freedom) * share**0.5
    assert pytest.approx((math.e**2, math.exp(2 - half), math.exp(2 + half))) == (
        interval.value,
        interval.low,
        interval.high,
    )


def test_no_variance_is_the_point_itself() -> None:
    interval = independent_ratio_interval([2.0, 2.0], [4.0, 4.0])
    assert pytest.approx((2, 2, 2)) == (interval.value, interval.low, interval.high)


@pytest.mark.parametrize(("before", "after"), [([1.0], [1.0, 1.0]), ([1.0, 1.0], [1.0]), ([0.0, 1.0], [1.0, 1.0])])
def test_too_few_or_senseless_values_are_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match=r"needs at least 2|positive"):
        independent_ratio_interval(before, after)
