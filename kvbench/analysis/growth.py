"""How a step grows with the context: a law per arm, where two laws cross, and what N tokens take in all.

Every block is fitted by itself and is one sample: intervals come from how its coefficients vary over blocks. The law
is linear in its coefficients, so whatever follows linearly from it (a total, the difference of two arms at a length)
has an interval by the same road.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvbench.analysis.comparison import RATIO
from kvbench.analysis.estimates import estimate
from kvbench.measuring.samples import Block, RunSamples
from kvbench.plan import Plan
from kvbench.records.growth import BreakEven, DecodeCheck, Growth, GrowthPoint, Law, Order, Total
from kvbench.records.part import Estimate, Speedup
from kvbench.statistics import LEVEL, mean_interval, ratio_interval

MEAN = "mean over blocks, Student-t interval"
TOTALS = (16, 64, 256, 1024, 4096)  # new tokens
VISIBLE = 0.02  # of the longest step: a smaller term changes nothing that anyone acts upon
GRID = 400  # lengths at which two laws are compared, evenly spaced on a logarithmic axis
LEAST_BLOCKS = 2
Matrix = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _Fit:
    """One arm: its lengths, ITL by block and length, and coefficients by block for 1, L, L²."""

    arm: int
    lengths: Matrix
    times: Matrix
    coefficients: Matrix

    def at(self, lengths: Matrix) -> Matrix:
        """Seconds by block and length."""
        return self.coefficients @ _terms(lengths).T

    def total(self, prompt: float, new_tokens: int) -> list[float]:
        """Seconds of the steps after the first token, by block: context prompt + 1 to prompt + new_tokens - 1."""
        contexts = prompt + np.arange(1, new_tokens)
        return [float(each) for each in self.at(contexts).sum(axis=1)]


def growth(plan: Plan, samples: RunSamples) -> Growth | None:
    """What a run over several lengths has measured; None for any other run, or before there are two blocks."""
    prepared, blocks = samples.prepared, samples.blocks
    if plan.config.scaling.lengths is None or prepared is None or len(blocks) < LEAST_BLOCKS:
        return None
    prompts = [max(len(prepared.prompts[index]["token_ids"]) for index in members) for members in prepared.batches]
    fits = [_fit(blocks, arm, prompts) for arm in range(len(plan.arms))]
    shortest, longest = float(min(fits[0].lengths)), float(max(fits[0].lengths))
    decodes = tuple(
        _checked(fits[each.arm], each.prompt_tokens, each.first_step_s, each.second_step_s)
        for each in samples.real_decodes
        if each.first_step_s
    )
    return Growth(
        shortest=shortest,
        longest=longest,
        points=tuple(
            GrowthPoint(
                arm=fit.arm, context_length=float(length), itl_s=estimate([float(t) for t in fit.times[:, index]])
            )
            for fit in fits
            for index, length in enumerate(fit.lengths)
        ),
        laws=tuple(map(_law, fits)),
        totals=tuple(
            Total(
                arm=fit.arm,
                new_tokens=count,
                seconds=_mean(fit.total(min(prompts), count)),
                beyond_range=min(prompts) + count - 1 > longest,
            )
            for fit in fits
            for count in TOTALS
        ),
        break_evens=tuple(_break_even(fits[0], fit, shortest, longest) for fit in fits[1:]),
        decodes=decodes,
    )


def _fit(blocks: Sequence[Block], arm: int, prompts: Sequence[int]) -> _Fit:
    """Least squares of relative errors: an error of a percent weighs the same in a short step and in a long one."""
    rows = []
    lengths: dict[int, list[float]] = {}
    for block in blocks:
        seconds: dict[int, float] = {}
        counts: dict[int, int] = {}
        for visit in block.visits:
            if visit.arm == arm and visit.lane == "throughput" and visit.steps:
                prompt = prompts[visit.batch]
                seconds[prompt] = seconds.get(prompt, 0.0) + visit.decode_s
                counts[prompt] = counts.get(prompt, 0) + visit.steps
                lengths.setdefault(prompt, []).append(prompt + (visit.steps + 1) / 2)  # the mean context of its steps
        rows.append([seconds[prompt] / counts[prompt] for prompt in sorted(seconds)])
    times = np.asarray(rows, dtype=float)
    middles = np.asarray([float(np.mean(lengths[prompt])) for prompt in sorted(lengths)])
    weights = 1 / times.mean(axis=0)
    scale = middles.max()
    design = _terms(middles / scale) * weights[:, None]
    solved, *_ = np.linalg.lstsq(design, (times * weights).T, rcond=None)
    return _Fit(arm, middles, times, solved.T / np.asarray([1.0, scale, scale**2]))


def _terms(lengths: Matrix) -> Matrix:
    return np.stack([np.ones_like(lengths), lengths, lengths**2], axis=1)


def _law(fit: _Fit) -> Law:
    launch, linear, quadratic = (_mean([float(value) for value in column]) for column in fit.coefficients.T)
    shortest, longest = fit.times[:, 0], fit.times[:, -1]
    ratio = ratio_interval([float(value) for value in longest / shortest])
    span = math.log(fit.lengths[-1] / fit.lengths[0])
    mean_times = fit.times.mean(axis=0)
    predicted = fit.at(fit.lengths).mean(axis=0)
    return Law(
        arm=fit.arm,
        launch_s=launch,
        per_token_s=linear,
        per_token2_s=quadratic,
        growth=Speedup(
            estimator=RATIO,
            value=ratio.value,
            ci_low=ratio.low,
            ci_high=ratio.high,
            level=ratio.level,
            n_blocks=len(fit.times),
        ),
        exponent=math.log(ratio.value) / span if span else None,
        order=_order(linear, quadratic, float(fit.lengths[-1]), float(mean_times[-1])),
        worst_error=float(np.abs(mean_times / predicted - 1).max()),
    )


def _order(linear: Estimate, quadratic: Estimate, longest: float, step_s: float) -> Order:
    if _counts(quadratic, longest**2, step_s):
        return "quadratic"
    return "linear" if _counts(linear, longest, step_s) else "constant"


def _counts(coefficient: Estimate, power: float, step_s: float) -> bool:
    """Whether a term grows for certain, and visibly."""
    value, low = coefficient.value, coefficient.ci_low
    return value is not None and low is not None and low > 0 and value * power > VISIBLE * step_s


def _break_even(baseline: _Fit, candidate: _Fit, shortest: float, longest: float) -> BreakEven:
    """Where the baseline's step becomes the slower one.

    The interval collects the lengths around the crossing at which the difference's own interval holds 0, after Fieller
    (1954).
    """
    grid = np.geomspace(shortest, longest, GRID)
    differences = baseline.at(grid) - candidate.at(grid)
    intervals = [mean_interval([float(value) for value in column]) for column in differences.T]
    mean = np.asarray([each.value for each in intervals])
    undecided = np.asarray([each.low <= 0 <= each.high for each in intervals])
    crossings = np.flatnonzero((mean[:-1] <= 0) & (mean[1:] > 0))
    within = f"{_tokens(shortest)} to {_tokens(longest)} tokens"
    common: dict[str, Any] = {"baseline_arm": baseline.arm, "candidate_arm": candidate.arm, "level": LEVEL}
    if not len(crossings):
        if undecided.any():
            detail = f"not told: over {within} the two steps are not clearly different"
        elif mean[0] > 0:
            detail = f"not within the range measured: the candidate's step is the faster one at every length, {within}"
        else:
            detail = f"not within the range measured: the candidate's step is nowhere the faster one, {within}"
        return BreakEven(context_length=None, ci_low=None, ci_high=None, detail=detail, **common)
    place = int(crossings[-1])
    share = mean[place] / (mean[place] - mean[place + 1])
    crossing = float(grid[place] + share * (grid[place + 1] - grid[place]))
    low, high = place, place + 1
    while low >= 0 and undecided[low]:
        low -= 1
    while high < GRID and undecided[high]:
        high += 1
    # The last lengths at which the difference is clear; beyond the first or the last one the range ends.
    ci_low = float(grid[low]) if low >= 0 else None
    ci_high = float(grid[high]) if high < GRID else None
    ends = f"{_tokens(ci_low) if ci_low else 'below ' + _tokens(shortest)} to" + (
        f" {_tokens(ci_high)}" if ci_high else f" above {_tokens(longest)}"
    )
    detail = f"from about {_tokens(crossing)} tokens on the candidate's step is the faster one (interval {ends})"
    return BreakEven(context_length=crossing, ci_low=ci_low, ci_high=ci_high, detail=detail, **common)


def _checked(fit: _Fit, prompt: int, first: tuple[float, ...], second: tuple[float, ...]) -> DecodeCheck:
    predicted = float(np.mean(fit.total(prompt, len(second) + 1)))
    return DecodeCheck(
        arm=fit.arm,
        prompt_tokens=prompt,
        new_tokens=len(second) + 1,
        first_s=sum(first),
        second_s=sum(second),
        predicted_s=predicted,
        error=sum(second) / predicted - 1,
        first_step_s=first,
        second_step_s=second,
    )


def _mean(samples: Sequence[float]) -> Estimate:
    interval = mean_interval(samples)
    return Estimate(
        estimator=MEAN,
        value=interval.value,
        ci_low=interval.low,
        ci_high=interval.high,
        level=interval.level,
        n=len(samples),
    )


def _tokens(length: float) -> str:
    return f"{length:,.0f}"
