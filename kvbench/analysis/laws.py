"""The law t(L) = launch + a·L + b·L² of one arm, fitted to the blocks of a run over several prompt lengths.

Every block is fitted by itself and is one sample: intervals come from how its coefficients vary over blocks. The law
is linear in its coefficients, so whatever follows linearly from it (a total, the difference of two arms at a length)
has an interval by the same road.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvbench.measuring.samples import Block
from kvbench.statistics import mean_intervals

Matrix = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Fit:
    """One arm: ITL by block and length, the mean terms (1, L, L²) of the steps at each, coefficients by block."""

    arm: int
    terms: Matrix
    times: Matrix
    coefficients: Matrix

    @property
    def lengths(self) -> Matrix:
        """Mean context lengths of the steps."""
        return self.terms[:, 1]

    def at(self, lengths: Matrix) -> Matrix:
        """Seconds by block and length."""
        return self.coefficients @ _terms(lengths).T

    def missed(self) -> float:
        """The largest share of a step by which the law is off, less what the noise of the blocks may account for."""
        relative = (self.coefficients @ self.terms.T - self.times) / self.times.mean(axis=0)
        _, low, high = mean_intervals(relative)
        return float(np.maximum(np.maximum(low, -high), 0.0).max())

    def total(self, prompt: float, new_tokens: int) -> list[float]:
        """Seconds of the steps after the first token, by block: context prompt + 1 to prompt + new_tokens - 1."""
        return floats(self.at(prompt + np.arange(1.0, new_tokens)).sum(axis=1))


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
    scale = terms.max(axis=0)
    weights = 1 / times.mean(axis=0)
    solved, *_ = np.linalg.lstsq(terms / scale * weights[:, None], (times * weights).T, rcond=None)
    return Fit(arm, terms, times, solved.T / scale)


def _terms(lengths: Matrix) -> Matrix:
    return np.stack([np.ones_like(lengths), lengths, lengths**2], axis=1)


def floats(values: Matrix) -> list[float]:
    """A row of an array as plain numbers."""
    return [float(value) for value in values]
