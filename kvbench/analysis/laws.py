"""The law of one arm's step against the context, fitted to the blocks of a run over several prompt lengths.

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

from kvbench.records.scaling import Form
from kvbench.records.timings import Block
from kvbench.statistics import mean_intervals

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
