"""Whether an arm became slower or faster while it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvbench.statistics import median, trend

FEWEST_BLOCKS = 8  # the default; with 5 blocks even a perfect trend is a matter of chance (p = 0.017)
SIGNIFICANCE = 0.01  # of Kendall's test: one steady arm in a hundred is called drifting
RELEVANCE = 0.01  # the band within which two speeds count as the same in one session


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
    if len(samples) < FEWEST_BLOCKS:
        return None
    test = trend(samples)
    if test is None or test.p > SIGNIFICANCE:
        return None
    third = len(samples) // 3
    change = median(samples[-third:]) / median(samples[:third]) - 1
    if abs(change) <= RELEVANCE:
        return None
    return Drift(change, test.tau, test.p)
