"""How far a valid comparison can be trusted: what must be said before any cause."""

from __future__ import annotations

import math

from scipy.special import stdtrit

from kvbench.analysis.comparison import MIN_BLOCKS
from kvbench.analysis.diagnosis.pair import Pair, percent
from kvbench.analysis.estimates import RELEVANCE
from kvbench.quantities import fixed
from kvbench.records.evidence import Sentence

MOST_BLOCKS = 200  # beyond that a quieter machine is the better advice


def ambiguous(pair: Pair) -> Sentence | None:
    """An interval that says neither, what makes it wide, and about how many blocks would settle it."""
    ratio = pair.comparison.speedup
    low, high, value, n = ratio.ci_low, ratio.ci_high, ratio.value, ratio.n_blocks
    if pair.comparison.verdict != "AMBIGUOUS" or low is None or high is None or not value or n < MIN_BLOCKS:
        return None
    half = math.log(high / low) / 2
    spread = half * math.sqrt(n) / _quantile(n)
    text = (
        f"The interval spans {fixed(low, 3)} to {fixed(high, 3)} because the ratio varies by {percent(spread)} from"
        " block to block"
    )
    needed = _blocks_needed(spread, abs(abs(math.log(value)) - math.log1p(RELEVANCE)))
    if needed is None:
        text += "; more blocks alone will hardly settle it: quieten the machine, or decode more tokens a block."
    else:
        text += f"; if its middle stays where it is, about {needed} blocks settle it (measure.blocks={needed})."
    paths = ("speedup/value", "speedup/ci_low", "speedup/ci_high", "speedup/n_blocks")
    return Sentence(code="ambiguous", text=text, evidence=tuple(map(pair.at, paths)))


def partly_throttled(pair: Pair) -> Sentence | None:
    """A few throttled blocks that still count."""
    during = pair.record.device_during
    standing = set(during.throttled_blocks) - set(during.repeated_blocks) if during else set()
    if not standing:
        return None
    text = (
        f"{len(standing)} of the blocks that count {'was' if len(standing) == 1 else 'were'} throttled by the device,"
        " in which both modes are slower than it can be; the ratio compares within blocks."
    )
    return Sentence(code="throttled", text=text, evidence=("/device_during/throttled_blocks",))


def _blocks_needed(spread: float, target: float) -> int | None:
    """The fewest blocks whose interval is no wider than `target` to either side; None beyond `MOST_BLOCKS`."""
    for n in range(MIN_BLOCKS, MOST_BLOCKS + 1):
        if _quantile(n) * spread / math.sqrt(n) <= target:
            return n
    return None


def _quantile(n: int) -> float:
    return float(stdtrit(n - 1, 0.975))
