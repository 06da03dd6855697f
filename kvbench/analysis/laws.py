"""The law of one arm's step against the context, fitted to a run over several prompt lengths, and where two laws cross.

Every block is fitted by itself and is one sample: intervals come from how its coefficients vary over blocks, and
whatever follows from them (a total, the difference of two arms at a length) has an interval by the same road.

Two forms share three coefficients. Where the host computes, or waits for the device, times add up:
launch + a·L + b·L². Where it runs ahead of the device, the slower of the two is what a step takes:
max(launch, a·L + b·L²). A sum fitted to the second kind bends below the knee and puts the break-even where both modes
still wait for launches, so the form is chosen by how well it fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.records.scaling import BreakEven, Form
from kvbench.records.timings import Block
from kvbench.statistics import LEVEL, mean_intervals

Matrix = NDArray[np.floating[Any]]
BETTER_FORM = 0.25  # a sum is kept unless the other form leaves less than this part of its squared residuals
RISES = 1.1  # times the launch time: what lies above the knee is clearly above


@dataclass(frozen=True)
class Fit:
    """One arm: ITL by block and length, the mean terms (1, L, L²) of the steps at each, coefficients by block."""

    arm: int
    terms: Matrix
    times: Matrix
    coefficients: Matrix
    form: Form = "sum"

    @property
    def lengths(self) -> Matrix:
        """Mean context lengths of the steps."""
        return self.terms[:, 1]

    def at(self, lengths: Matrix) -> Matrix:
        """Seconds by block and length."""
        return self._seconds(_terms(lengths))

    def at_points(self) -> Matrix:
        """Seconds by block of what was measured at each length: the mean over steps whose contexts differ by little."""
        return self._seconds(self.terms)

    def knee(self) -> float | None:
        """The length at which the device's work outgrows the launches: where the mean law of a maximum turns."""
        launch, linear, quadratic = self.coefficients.mean(axis=0)
        rising = [float(root.real) for root in np.roots([quadratic, linear, -launch]) if np.isreal(root)]
        return min((root for root in rising if root > 0), default=None) if self.form == "max" else None

    def missed(self) -> float:
        """The largest share of a step by which the law is off, less what the noise of the blocks may account for."""
        relative = (self.at_points() - self.times) / self.times.mean(axis=0)
        _, low, high = mean_intervals(relative)
        return float(np.maximum(np.maximum(low, -high), 0.0).max())

    def residual(self) -> float:
        """Squared relative distance of the mean times from the law."""
        return float(((self.at_points().mean(axis=0) / self.times.mean(axis=0) - 1) ** 2).sum())

    def total(self, prompt: float, new_tokens: int) -> list[float]:
        """Seconds of the steps after the first token, by block: context prompt + 1 to prompt + new_tokens - 1."""
        return floats(self.at(prompt + np.arange(1.0, new_tokens)).sum(axis=1))

    def _seconds(self, terms: Matrix) -> Matrix:
        launch, work = self.coefficients[:, :1], self.coefficients[:, 1:] @ terms[:, 1:].T
        return np.maximum(launch, work) if self.form == "max" else launch + work


def fit_law(blocks: Sequence[Block], arm: int, prompts: Sequence[int]) -> Fit:
    """Least squares of relative errors: an error of a percent weighs the same in a short step and in a long one."""
    rows: list[list[float]] = []
    contexts: dict[int, Matrix] = {}
    for block in blocks:
        seconds: dict[int, float] = {}
        counts: dict[int, int] = {}
        for visit in block.visits:
            if visit.arm == arm and visit.lane == "throughput":
                prompt = prompts[visit.batch]
                seconds[prompt] = seconds.get(prompt, 0.0) + visit.decode_s
                counts[prompt] = counts.get(prompt, 0) + visit.steps
                contexts[prompt] = prompt + np.arange(1.0, visit.steps + 1)
        rows.append([seconds[prompt] / counts[prompt] for prompt in sorted(seconds)])
    times = np.asarray(rows, dtype=float)
    # The mean of L² over the steps of a visit is more than the square of their mean L: each term has its own mean.
    terms = np.stack([_terms(contexts[prompt]).mean(axis=0) for prompt in sorted(contexts)])
    return _best_form(arm, terms, times)


def _best_form(arm: int, terms: Matrix, times: Matrix) -> Fit:
    """The sum, or the maximum where that fits much better; see the module."""
    added = Fit(arm, terms, times, _solved(terms, times, 0, (0, 1, 2)))
    larger = [_larger(arm, terms, times, below) for below in range(1, len(terms))]
    best = min((fit for fit in larger if fit is not None), key=Fit.residual, default=added)
    return best if best.residual() < BETTER_FORM * added.residual() else added


def _larger(arm: int, terms: Matrix, times: Matrix, below: int) -> Fit | None:
    """The maximum with its knee behind the first `below` lengths; None where the others do not all lie above it."""
    mean = times.mean(axis=0)
    if mean[below:].min() < RISES * mean[:below].mean():
        return None
    powers = (1, 2) if len(terms) - below > 1 else (1,)  # one length does not tell a line from a square
    return Fit(arm, terms, times, _solved(terms, times, below, powers), "max")


def _solved(terms: Matrix, times: Matrix, below: int, powers: tuple[int, ...]) -> Matrix:
    """Coefficients by block: those of `powers` from the lengths after the first `below`, whose mean is the launch."""
    scale, weights = terms.max(axis=0), 1 / times.mean(axis=0)
    design = (terms / scale * weights[:, None])[below:, powers]
    solved, *_ = np.linalg.lstsq(design, (times * weights)[:, below:].T, rcond=None)
    coefficients = np.zeros((len(times), 3))
    if below:
        coefficients[:, 0] = times[:, :below].mean(axis=1)
    coefficients[:, powers] = solved.T / scale[list(powers)]
    return coefficients


def _terms(lengths: Matrix) -> Matrix:
    return np.stack([np.ones_like(lengths), lengths, lengths**2], axis=1)


def floats(values: Matrix) -> list[float]:
    """A row of an array as plain numbers."""
    return [float(value) for value in values]


# Where two laws cross.


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
    if missed <= RELEVANT_WITHIN_A_RUN:
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
    return _Difference(grid, mean, low - margin, high + margin, RELEVANT_WITHIN_A_RUN * np.abs(candidate).mean(axis=0))


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
