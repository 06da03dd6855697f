"""Intervals cover what they say, from the smallest sample on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from kvbench.statistics import geometric_mean, median, median_interval, ratio_interval, trend


class TestRatioInterval:
    def test_agrees_with_a_worked_example(self) -> None:
        # logs 0, ln 2, ln 4: mean ln 2, sd ln 2, t(0.975, 2) = 4.302653
        interval = ratio_interval([1.0, 2.0, 4.0])
        half = 4.302652729911275 * math.log(2) / math.sqrt(3)
        assert interval.value == pytest.approx(2.0)
        assert interval.low == pytest.approx(2.0 / math.exp(half))
        assert interval.high == pytest.approx(2.0 * math.exp(half))

    def test_is_a_point_when_nothing_varies(self) -> None:
        interval = ratio_interval([1.5, 1.5])
        assert (interval.low, interval.high) == pytest.approx((1.5, 1.5))

    @pytest.mark.parametrize("samples", [[], [2.0]])
    def test_refuses_fewer_than_two(self, samples: list[float]) -> None:
        with pytest.raises(ValueError, match="at least 2"):
            ratio_interval(samples)

    def test_refuses_ratios_that_have_no_logarithm(self) -> None:
        with pytest.raises(ValueError, match="positive"):
            ratio_interval([1.0, 0.0])

    @pytest.mark.parametrize("n", [2, 3, 5, 8, 20])
    def test_covers_the_truth_at_its_level(self, n: int) -> None:
        dice = np.random.default_rng(n)
        trials = 4000
        hits = 0
        for _ in range(trials):
            interval = ratio_interval(list(np.exp(math.log(1.3) + 0.05 * dice.standard_normal(n))))
            hits += interval.low <= 1.3 <= interval.high
        # three standard errors of a proportion at 95 %
        assert hits / trials >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)


class TestMedianInterval:
    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_is_absent_where_even_the_extremes_cover_too_little(self, n: int) -> None:
        assert median_interval(list(range(n))) is None

    def test_is_the_extremes_at_the_smallest_sample(self) -> None:
        interval = median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
        assert interval is not None
        assert (3.5, 1.0, 6.0) == (interval.value, interval.low, interval.high)
        assert interval.level == pytest.approx(1 - 2 / 64)

    def test_attains_99_percent_with_8_samples(self) -> None:
        interval = median_interval(list(range(8)))
        assert interval is not None
        assert interval.level == pytest.approx(0.9921875)

    @pytest.mark.parametrize("n", [6, 9, 25, 100])
    def test_covers_the_median_of_a_skewed_law(self, n: int) -> None:
        dice = np.random.default_rng(n)
        trials = 3000
        hits = 0
        for _ in range(trials):
            interval = median_interval(list(dice.exponential(size=n)))
            assert interval is not None
            hits += interval.low <= math.log(2) <= interval.high
        assert hits / trials >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)


class TestPointEstimates:
    def test_median_of_an_even_count_is_the_mean_of_the_middle(self) -> None:
        assert median([4.0, 1.0, 2.0, 3.0]) == 2.5

    def test_median_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no samples"):
            median([])

    def test_geometric_mean_treats_a_ratio_and_its_inverse_alike(self) -> None:
        assert geometric_mean([4.0, 0.25]) == pytest.approx(1.0)


class TestTrend:
    @pytest.mark.parametrize("n", [2, 3, 8, 9, 20, 33, 34, 60, 171, 200])
    @pytest.mark.parametrize("kind", ["noise", "rising", "ties", "sorted", "one pair swapped"])
    def test_is_scipy_s_to_the_last_digits(self, n: int, kind: str) -> None:
        dice = np.random.default_rng(n)
        samples = dice.normal(size=n)
        if kind == "rising":
            samples += 0.2 * np.arange(n)
        if kind == "ties":
            samples = np.round(samples)
        if kind in ("sorted", "one pair swapped"):
            samples = np.sort(samples)
        if kind == "one pair swapped":
            samples[[0, 1]] = samples[[1, 0]]
        expected, found = kendalltau(np.arange(n), samples), trend(samples.tolist())
        if found is None:
            assert math.isnan(expected.statistic)
        else:
            assert found.tau == pytest.approx(expected.statistic, rel=1e-14)
            assert found.p == pytest.approx(expected.pvalue, rel=1e-12)

    @pytest.mark.parametrize("samples", [[], [1.0], [2.0, 2.0, 2.0]])
    def test_is_none_without_an_order(self, samples: list[float]) -> None:
        assert trend(samples) is None
