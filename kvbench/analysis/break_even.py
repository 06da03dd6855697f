"""The context length from which one way of decoding has the faster step, by two fitted laws or by measured points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvbench.analysis.comparison import RELEVANCE
from kvbench.analysis.laws import Fit, Matrix
from kvbench.records.scaling import BreakEven
from kvbench.statistics import LEVEL, mean_intervals

GRID = 400  # lengths at which two laws are compared, evenly spaced on a logarithmic axis
NOTHING = 1e-4  # of a step: less is rounding, of the clock and of the fit


@dataclass(frozen=True)
class _Difference:
    """Baseline less candidate in seconds of a step, at every length of the grid; less than `least` does not matter."""

    grid: Matrix
    mean: Matrix
    low: Matrix
    high: Matrix
    least: Matrix

    def clearly(self, *, faster: bool) -> list[int]:
        """Places at which the candidate is faster, or slower, for certain and by enough to matter."""
        certain = (self.low > 0) & (self.mean > self.least) if faster else (self.high < 0) & (self.mean < -self.least)
        return [int(place) for place in np.flatnonzero(certain)]

    def zero(self, first: int, last: int, *, rising: bool) -> float | None:
        """The last length between two places at which the mean rises, or falls, through 0."""
        above = self.mean[first : last + 1] > 0
        turns = np.flatnonzero((~above[:-1] & above[1:]) if rising else (above[:-1] & ~above[1:]))
        if not len(turns):
            return None
        place = first + int(turns[-1])
        share = self.mean[place] / (self.mean[place] - self.mean[place + 1])
        return float(self.grid[place] + share * (self.grid[place + 1] - self.grid[place]))


def break_even(baseline: Fit, candidate: Fit, labels: tuple[str, str]) -> BreakEven:
    """Where the baseline's step becomes the slower one for good; `labels` are what to call the two.

    The interval collects the lengths around the crossing at which the difference's own interval holds 0, after Fieller
    (1954): Student's over blocks, widened by what the laws miss of the points whatever the noise. Laws that miss more
    than what counts as a difference are not asked; then the points speak, and the interval ends at measured lengths.
    """
    shortest, longest = float(min(baseline.lengths)), float(max(baseline.lengths))
    missed = max(baseline.missed(), candidate.missed())
    if missed <= RELEVANCE:
        grid = np.geomspace(shortest, longest, GRID)
        found, points = _difference(grid, baseline.at(grid), candidate.at(grid), missed), ""
    else:
        found = _difference(baseline.lengths, baseline.times, candidate.times, 0.0)
        points = "by the points alone, which the laws miss"
    within = f"{_tokens(shortest)} to {_tokens(longest)} tokens"
    length, low, high, detail = _found(found, labels, within, baseline.knee())
    if points:  # a knee is a law's; its interval is not
        detail += f"; the interval is {points}" if length is not None and low is None else f"; {points}"
    return BreakEven(
        baseline_arm=baseline.arm,
        candidate_arm=candidate.arm,
        context_length=length,
        ci_low=low,
        ci_high=high,
        level=LEVEL,
        detail=detail,
    ).because(dict.fromkeys(("context_length", "ci_low", "ci_high"), detail))


def _difference(grid: Matrix, baseline: Matrix, candidate: Matrix, missed: float) -> _Difference:
    """Of seconds by block and length."""
    step = np.abs(baseline).mean(axis=0) + np.abs(candidate).mean(axis=0)
    mean, low, high = mean_intervals(baseline - candidate)
    margin = (missed + NOTHING) * step
    return _Difference(grid, mean, low - margin, high + margin, RELEVANCE * np.abs(candidate).mean(axis=0))


def _found(
    difference: _Difference, labels: tuple[str, str], within: str, knee: float | None
) -> tuple[float | None, float | None, float | None, str]:
    """(length, low, high, sentence)."""
    baseline, candidate = f"one of {labels[0]}", f"a step of {labels[1]}"
    grid, last, outside = difference.grid, len(difference.grid) - 1, "not within the range measured"
    slower, faster = difference.clearly(faster=False), difference.clearly(faster=True)
    if not slower and not faster:
        return None, None, None, f"not told: over {within} {candidate} is not clearly faster or slower than {baseline}"
    if slower and faster and slower[-1] > faster[-1]:
        end = difference.zero(faster[-1], slower[-1], rising=False)
        start = difference.zero(slower[0], faster[-1], rising=True) if slower[0] < faster[-1] else None
        start_text = "" if start is None else f"from about {_tokens(start)} "
        only = f"up to about {_tokens(end or grid[faster[-1]])} tokens only"
        return None, None, None, f"{candidate} is faster than {baseline} {start_text}{only}"
    if not slower and len(faster) < len(grid) - faster[0]:
        if faster[-1] != last:
            some = f"{_tokens(grid[faster[0]])} to {_tokens(grid[faster[-1]])}"
            return None, None, None, f"not told: {candidate} is clearly faster at some lengths only, {some} tokens"
        behind_the_gaps = max(set(range(last)) - set(faster))
        faster = [place for place in faster if place > behind_the_gaps]
    if not slower and faster[0] == 0:
        return None, None, None, f"{outside}: {candidate} is the faster one at every length, {within}"
    if len(slower) == len(grid):
        return None, None, None, f"{outside}: {candidate} is nowhere the faster one, {within}"
    if not slower:
        since = float(grid[faster[0]])
        if knee is not None and grid[0] < knee <= since:
            told = f"from about {_tokens(knee)} tokens on, where a step of {labels[0]} outgrows its launches,"
            interval = f"{100 * LEVEL:g} % interval below {_tokens(grid[0])} to {_tokens(since)}"
            return knee, None, since, f"{told} {candidate} is the faster one ({interval})"
        return None, None, since, f"{candidate} is clearly faster from {_tokens(since)} tokens on, below it is not told"
    if not faster:
        until = float(grid[slower[-1]])
        return None, until, None, f"{candidate} is clearly slower up to {_tokens(until)} tokens, beyond it is not told"
    low = slower[-1]
    high = next(place for place in faster if place > low)
    crossing = difference.zero(low, high, rising=True)
    told = f"from about {_tokens(crossing or grid[high])} tokens on {candidate} is faster than {baseline}"
    interval = f"{100 * LEVEL:g} % interval {_tokens(grid[low])} to {_tokens(grid[high])}"
    return crossing, float(grid[low]), float(grid[high]), f"{told} ({interval})"


def _tokens(length: float) -> str:
    return f"{length:,.0f}"
