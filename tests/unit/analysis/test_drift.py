"""A trend over blocks is told, noise is not."""

from __future__ import annotations

import random

import pytest

from kvbench.analysis.estimates import SIGNIFICANCE, drift


@pytest.mark.parametrize("per_block", [0.01, -0.01])
def test_a_steady_change_is_found_with_its_size(per_block: float) -> None:
    found = drift([1 + per_block * block for block in range(9)])
    assert found is not None
    # thirds of 9 blocks: medians at blocks 1 and 7
    assert found.change == pytest.approx((1 + 7 * per_block) / (1 + per_block) - 1)
    assert found.tau == pytest.approx(1 if per_block > 0 else -1)


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [1.0],
        [1.0] * 20,  # zero variance is steady
        [1.0 + 0.1 * block for block in range(7)],  # too few blocks
        [1.0 + 0.0001 * block for block in range(20)],  # certain, and of no consequence
        [1.0] * 10 + [5.0] + [1.0] * 9,  # one slow block
    ],
    ids=["none", "one", "constant", "few", "tiny", "one slow"],
)
def test_nothing_is_said_of(samples: list[float]) -> None:
    assert drift(samples) is None


@pytest.mark.parametrize("blocks", [8, 16, 40])
def test_steady_arms_are_called_drifting_no_more_often_than_stated(blocks: int) -> None:
    dice = random.Random(5)
    runs = 2000
    alarms = sum(drift([dice.gauss(1, 0.05) for _ in range(blocks)]) is not None for _ in range(runs))
    spread = (SIGNIFICANCE * (1 - SIGNIFICANCE) / runs) ** 0.5
    assert alarms / runs <= SIGNIFICANCE + 3 * spread


def test_two_percent_in_all_is_found_under_little_noise() -> None:
    dice = random.Random(6)
    found = sum(drift([1 + 0.003 * block + dice.gauss(0, 0.002) for block in range(8)]) is not None for _ in range(300))
    assert found > 270
