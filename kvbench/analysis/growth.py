"""How a step grows with the context: a law per arm, where two laws cross, and what N tokens take in all.

Every block is fitted by itself and is one sample: intervals come from how its coefficients vary over blocks, and
whatever follows from them (a total, the difference of two arms at a length) has an interval by the same road.

Two forms share the three coefficients. Where the host computes, or waits for the device, times add up:
launch + a·L + b·L². Where it runs ahead of the device, the slower of the two is what a step takes:
max(launch, a·L + b·L²). A sum fitted to the second kind bends upwards below the knee and puts the break-even where both
modes still wait for launches, so the form is chosen by how well it fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvbench.analysis.comparison import RATIO, RELEVANCE
from kvbench.analysis.estimates import estimate
from kvbench.measuring.samples import Block, RunSamples
from kvbench.plan import Plan
from kvbench.records.growth import BreakEven, DecodeCheck, Form, Growth, GrowthPoint, Law, Order, Total
from kvbench.records.part import Estimate, Speedup
from kvbench.statistics import LEVEL, mean_interval, ratio_interval

MEAN = "mean over blocks, Student-t interval"
TOTALS = (16, 64, 256, 1024, 4096)  # new tokens
VISIBLE = 0.02  # of the longest step: a smaller term changes nothing that anyone acts upon
BETTER_FORM = 0.25  # a sum is kept unless the other form leaves less than this part of its squared residuals
RISES = 1.1  # times the launch time: what lies above the knee is clearly above
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
    form: Form

    def at(self, lengths: Matrix) -> Matrix:
        """Seconds by block and length."""
        work = self.coefficients[:, 1:] @ _terms(lengths)[:, 1:].T
        launch = self.coefficients[:, :1]
        return np.maximum(launch, work) if self.form == "max" else launch + work

    def knee(self) -> float | None:
        """The length at which the device's work outgrows the launches: where the mean law of a maximum turns."""
        launch, linear, quadratic = self.coefficients.mean(axis=0)
        rising = [float(root) for root in np.roots([quadratic, linear, -launch]) if np.isreal(root) and root.real > 0]
        return min(rising, default=None) if self.form == "max" else None

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
    return _best_form(arm, middles, times)


def _best_form(arm: int, lengths: Matrix, times: Matrix) -> _Fit:
    """The sum, or the maximum where that fits much better; see the module."""
    everywhere = np.ones(len(lengths), dtype=bool)
    added = _Fit(arm, lengths, times, _solved(lengths, times, everywhere, (0, 1, 2)), "sum")
    larger = [_larger(arm, lengths, times, below) for below in range(1, len(lengths))]
    best = min((fit for fit in larger if fit is not None), key=_residual, default=added)
    return best if _residual(best) < BETTER_FORM * _residual(added) else added


def _larger(arm: int, lengths: Matrix, times: Matrix, below: int) -> _Fit | None:
    """The maximum with its knee behind the first `below` lengths; None where the others do not all lie above it."""
    mean = times.mean(axis=0)
    if mean[below:].min() < RISES * mean[:below].mean():
        return None
    above = np.arange(len(lengths)) >= below
    powers = (1, 2) if above.sum() > 1 else (1,)  # one length does not tell a line from a square
    return _Fit(arm, lengths, times, _solved(lengths, times, above, powers, below), "max")


def _solved(lengths: Matrix, times: Matrix, chosen: Any, powers: tuple[int, ...], below: int = 0) -> Matrix:
    """Coefficients by block of `powers` over the chosen lengths; of the lengths `below` the launch time is the mean."""
    weights = 1 / times.mean(axis=0)
    scale = lengths.max()
    design = (_terms(lengths / scale) * weights[:, None])[chosen][:, powers]
    solved, *_ = np.linalg.lstsq(design, (times * weights)[:, chosen].T, rcond=None)
    coefficients = np.zeros((len(times), 3))
    if below:
        coefficients[:, 0] = times[:, :below].mean(axis=1)
    coefficients[:, powers] = solved.T / scale ** np.asarray(powers, dtype=float)
    return coefficients


def _residual(fit: _Fit) -> float:
    """Squared relative distance of the mean times from the law."""
    mean = fit.times.mean(axis=0)
    return float(((fit.at(fit.lengths).mean(axis=0) / mean - 1) ** 2).sum())


def _terms(lengths: Matrix) -> Matrix:
    return np.stack([np.ones_like(lengths), lengths, lengths**2], axis=1)


def _law(fit: _Fit) -> Law:
    launch, linear, quadratic = (_mean([float(value) for value in column]) for column in fit.coefficients.T)
    if fit.form == "max" and not fit.coefficients[:, 2].any():
        quadratic = quadratic.model_copy(update={"value": None, "ci_low": None, "ci_high": None, "level": None})
    shortest, longest = fit.times[:, 0], fit.times[:, -1]
    ratio = ratio_interval([float(value) for value in longest / shortest])
    span = math.log(fit.lengths[-1] / fit.lengths[0])
    mean_times = fit.times.mean(axis=0)
    predicted = fit.at(fit.lengths).mean(axis=0)
    return Law(
        arm=fit.arm,
        form=fit.form,
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

    The interval collects the lengths around it at which the difference's own interval holds 0, after Fieller (1954), or
    the difference is too small to matter.
    Where the two steps are not told apart up to the baseline's knee, nothing but the knee can be named.
    """
    grid = np.geomspace(shortest, longest, GRID)
    differences = baseline.at(grid) - candidate.at(grid)
    intervals = [mean_interval([float(value) for value in column]) for column in differences.T]
    mean = np.asarray([each.value for each in intervals])
    # Told apart: for certain, and by enough to matter.
    least = RELEVANCE * candidate.at(grid).mean(axis=0)
    undecided = np.asarray([each.low <= 0 <= each.high for each in intervals]) | (np.abs(mean) < least)
    within = f"{_tokens(shortest)} to {_tokens(longest)} tokens"
    common: dict[str, Any] = {"baseline_arm": baseline.arm, "candidate_arm": candidate.arm, "level": LEVEL}
    crossing = _crossing(grid, mean, undecided, baseline.knee())
    if crossing is None:
        if undecided.any():
            detail = f"not told: over {within} the two steps are not clearly different"
        elif mean[0] > 0:
            detail = f"not within the range measured: the candidate's step is the faster one at every length, {within}"
        else:
            detail = f"not within the range measured: the candidate's step is nowhere the faster one, {within}"
        return BreakEven(context_length=None, ci_low=None, ci_high=None, detail=detail, **common)
    low = int(np.searchsorted(grid, crossing, side="right")) - 1
    high = low + 1
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


def _crossing(grid: Matrix, mean: Matrix, undecided: Any, knee: float | None) -> float | None:
    """The last length at which the mean difference turns positive, or the knee if up to there nothing is told apart."""
    if undecided.all():
        return None
    faster_at_last = bool(mean[-1] > 0 and not undecided[-1])
    if knee is not None and grid[0] < knee < grid[-1] and faster_at_last and bool(undecided[grid < knee].all()):
        return knee
    places = np.flatnonzero((mean[:-1] <= 0) & (mean[1:] > 0))
    if not len(places):
        return None
    place = int(places[-1])
    share = mean[place] / (mean[place] - mean[place + 1])
    return float(grid[place] + share * (grid[place + 1] - grid[place]))


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
