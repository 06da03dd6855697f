"""The gate's interval covers what it says, its words are as sure as they say, and a slowdown is found."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from shares import too_few, too_many

from kvbench.analysis.regression import RegressionRow, gate
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


def side(logs: NDArray[np.float64], first_pid: int) -> list[Any]:
    """What the gate reads of records: a row of `logs` is a process, its columns are the arms."""
    return [
        SimpleNamespace(
            keys=SimpleNamespace(compare_key="k"),
            model=None,
            valid=True,
            environment={"worker": {"pid": first_pid + number, "started_at": "now"}},
            arms=[
                SimpleNamespace(
                    parts={"mode": "cached"},
                    decode_tokens_per_s=SimpleNamespace(value=math.exp(log)),
                )
                for log in process
            ],
        )
        for number, process in enumerate(logs)
    ]


def judged(
    dice: np.random.Generator, *, noise: float, arms: int = 1, processes: int = 5, slower: float = 0.0, **options: Any
) -> tuple[RegressionRow, ...]:
    """The gate over two sides of normal noise per process; NEW takes `slower` more time in every arm."""
    base = dice.normal(0, noise, (processes, arms))
    new = dice.normal(-math.log1p(slower), noise, (processes, arms))
    return gate(side(base, 1), side(new, 1001), **options)


class TestASlowdown:
    """Power; theory over 4,000 pairs is 0.876, 0.974, 0.501 and 0.863."""

    @pytest.mark.parametrize(
        ("slower", "relevance", "noise", "processes", "least", "most"),
        [
            (0.10, 0.05, 0.02, 5, 0.85, 0.91),
            (0.05, 0.02, 0.01, 5, 0.95, 1.0),
            (0.05, 0.02, 0.02, 5, 0.45, 0.55),  # so that nobody thinks that five processes do for it
            (0.05, 0.02, 0.02, 10, 0.83, 0.90),
        ],
    )
    def test_is_found(
        self, slower: float, relevance: float, noise: float, processes: int, least: float, most: float
    ) -> None:
        dice = np.random.default_rng([4, processes, round(1000 * noise)])
        found = 0
        for _ in range(RUNS // 4):
            (row,) = judged(dice, noise=noise, processes=processes, slower=slower, relevance=relevance)
            found += row.verdict == "SLOWER"
        assert not too_few(found, RUNS // 4, least)
        assert not too_many(found, RUNS // 4, most)


class TestEqualCode:
    def test_is_never_slower_at_realistic_noise(self) -> None:
        dice = np.random.default_rng(5)
        verdicts = {row.verdict for _ in range(25) for row in judged(dice, noise=0.02, arms=40)}
        assert {"SAME", "AMBIGUOUS"} == verdicts

    @pytest.mark.parametrize("arms", [1, 2, 40])
    def test_is_slower_in_any_of_its_rows_no_more_often_than_the_level(self, arms: int) -> None:
        # With 20 % of noise the band protects nobody: uncorrected, 40 rows hold a SLOWER in 31 % of the comparisons.
        dice = np.random.default_rng([6, arms])
        comparisons = max(RUNS // 8 // arms, 100)
        alarms = sum(
            any(row.verdict == "SLOWER" for row in judged(dice, noise=0.2, arms=arms)) for _ in range(comparisons)
        )
        assert not too_many(alarms, comparisons, 0.025)

    def test_says_so_where_only_the_count_of_rows_speaks_against_a_word(self) -> None:
        base, new = np.linspace(-0.1, 0.1, 5)[:, None], np.linspace(-0.33, -0.13, 5)[:, None]
        (alone,) = gate(side(base, 1), side(new, 1001))
        (among,) = gate(side(base, 1), side(new, 1001), among=40)
        assert ("SLOWER", "AMBIGUOUS") == (alone.verdict, among.verdict)
        assert alone.ratio == among.ratio
        assert "SLOWER by itself, but one of 40 may look so by chance: more processes would tell" == among.reason
