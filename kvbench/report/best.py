"""Which of several figures is the best, and which of them cannot be told from it."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.records.part import Better, Estimate, Speedup

Known = tuple[float, float, float]  # value, lowest and highest that it may be
OF_ITSELF: Known = (1.0, 1.0, 1.0)  # the speed-up of an arm over itself


def with_interval(figure: Estimate | Speedup | float | None) -> Known | None:
    """Value, lowest and highest; None where an estimate has no interval."""
    if isinstance(figure, (Estimate, Speedup)):
        value, low, high = figure.value, figure.ci_low, figure.ci_high
        # Without an interval nobody can tell which is the best.
        return None if value is None or low is None or high is None else (value, low, high)
    return None if figure is None else (figure, figure, figure)


def best_of(values: Sequence[Known | None], better: Better) -> set[int]:
    """Places of the best value and of those whose intervals reach its interval; none where that is all of them."""
    known = {place: each for place, each in enumerate(values) if each is not None}
    if better == "none" or len(known) < 2:
        return set()
    sign = 1 if better == "higher" else -1
    _, low, high = max(known.values(), key=lambda each: sign * each[0])
    best = {place for place, each in known.items() if each[1] <= high and each[2] >= low}
    return set() if len(best) == len(known) else best
