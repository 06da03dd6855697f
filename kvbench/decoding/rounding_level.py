"""How large rounding's own error is: that of recompute in the usual order of summing, and in others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from kvbench.decoding.logit_differences import Logits, errors, largest_difference, largest_logit, possible, rms
from kvbench.decoding.rounding import OtherOrder, other_orders
from kvbench.decoding.routing import Flips
from kvbench.decoding.sampling import Forced
from kvbench.decoding.token_path import Compared, Stretch, as_timed, followed, with_routes
from kvbench.errors import reason_of
from kvbench.records.agreement_figures import NoiseWay
from kvbench.rounding_limits import outer_gate, resolution

NOT_THE_MODEL = 0.5  # of the largest logit, at the prefill: what no type's rounding makes
ANOTHER_COMPUTATION = 4.0  # times the error that reordered products make: no other order of the same sums


def why_not_wider(run: Compared, stretch: Stretch) -> str:
    """Why the model in a wider type is no reference, in words; empty when it is one."""
    assert run.wider is not None
    try:
        first = with_routes(run, replace(stretch, steps=(0,)))
        with first.routes.prescribed(stretch.batch):
            reference = run.wider(stretch.batch, Forced(stretch.path, (0,)))
        apart = errors(reference, plain := followed(run.unprepared, 0, first, exact=True))
    except Exception as failure:  # whatever it fails with, the run can be judged without it
        return f"the model could not be run in {run.wider_dtype} ({type(failure).__name__}: {reason_of(failure)})"
    relative = float(apart.max()) / largest_logit(plain)
    if relative == 0 or not relative < NOT_THE_MODEL:
        return f"in {run.wider_dtype} the model computes something else ({relative:.1e} apart)"
    return ""


@dataclass
class Way:
    """One other order of summing, over all batches: its largest difference, or why it could not be tried."""

    order: OtherOrder
    max_abs: float | None = None
    max_rel: float | None = None
    skipped: str = ""

    def figures(self) -> NoiseWay:
        """What the record holds of it."""
        rel = None if self.skipped else self.max_rel
        return NoiseWay(way=self.order.name, noise_rel=rel, skipped=self.skipped)


@dataclass(frozen=True)
class Measured:
    """What every arm is held against at some steps of one batch, and how large rounding's own error is there."""

    baseline: Logits  # of the first arm as it is timed
    flips: Flips  # of its routers
    reference: Logits
    level: torch.Tensor  # (steps, rows): the error that rounding makes
    first_errors: torch.Tensor  # (steps, rows): the first arm's own


def measure_rounding(run: Compared, stretch: Stretch, ways: dict[str, Way]) -> Measured:
    """The reference, and the error of the same computation beside it: its own, and in other orders of summing."""
    baseline, flips = as_timed(run, 0, stretch)
    reference = baseline
    if run.wider is not None:
        with stretch.routes.prescribed(stretch.batch):
            reference = run.wider(stretch.batch, Forced(stretch.path, stretch.steps))
    # An engine of the first arm has no part in what rounding is taken to be: were it wrong, it would excuse everyone.
    # Nor has a quantised cache, in which rounding tips codes.
    some = replace(stretch, steps=stretch.rounding_steps)
    plain = followed(run.unprepared, 0, some, exact=True)
    at = [stretch.steps.index(step) for step in stretch.rounding_steps]
    beside = plain if run.wider is None else [reference[index] for index in at]
    scale = largest_logit(plain)
    samples = [] if run.wider is None else [errors(beside, plain)]
    by_product: list[torch.Tensor] = list(samples)
    for order in other_orders(takes_masks=run.takes_masks, second_attention=run.second_attention(stretch.batch)):
        way = ways.setdefault(order.name, Way(order))
        if way.skipped:
            continue
        try:
            with order.context():
                logits = followed(run.unprepared, 0, replace(some, batch=order.batch(stretch.batch)), order, exact=True)
        except Exception as failure:  # no such kernel, no memory for it, a model that it does not fit: the others stand
            way.skipped = f"{type(failure).__name__}: {reason_of(failure)}"
            continue
        logits = [each[: len(stretch.path)] for each in logits]
        error = errors(beside, logits)
        difference = largest_difference(plain, logits)
        way.skipped = _why_left_out(run, order, error, by_product, difference / scale)
        if way.skipped:
            continue
        way.max_abs = max(way.max_abs or 0.0, difference)
        way.max_rel = max(way.max_rel or 0.0, difference / scale)
        samples.append(error)
        if order.by_product:
            by_product.append(error)
    first_errors = errors(reference, baseline)
    return Measured(
        baseline, flips, reference, _level(run, stretch, at, samples, reference, first_errors), first_errors
    )


def _why_left_out(
    run: Compared, order: OtherOrder, error: torch.Tensor, by_product: Sequence[torch.Tensor], rel: float
) -> str:
    """Why what came out is no measure of rounding, in words; empty when it is one."""
    if not bool(error.isfinite().all()):
        return "it gave logits that are not finite numbers"
    usual = float(torch.stack(list(by_product)).square().mean().sqrt()) if by_product else 0.0
    times = float(error.square().mean().sqrt()) / usual if usual else 0.0
    exact = run.wider is not None or run.dtype in ("float32", "float64")
    if exact and not order.by_product and times > ANOTHER_COMPUTATION:
        return f"another computation in this model: its error is {times:.3g} times that of reordered products"
    if rel > outer_gate(run.dtype) and run.wider is None:
        return f"another computation in this model: {rel:.1e} of the largest logit is more than rounding does"
    return ""


def _level(
    run: Compared,
    stretch: Stretch,
    at: Sequence[int],
    samples: Sequence[torch.Tensor],
    reference: Logits,
    first_errors: torch.Tensor,
) -> torch.Tensor:
    """The error of rounding at every step and row: of all samples there; where there is none, of the whole row.

    A first arm in plain PyTorch is recompute itself: no step rounds less than it does there.
    """
    floor = resolution(run.dtype) * torch.stack([rms(possible(each.double())) for each in reference]) / 4
    if not samples:
        return floor
    known = torch.stack(list(samples)).square().mean(0).sqrt()
    level = known.square().mean(0).sqrt().expand(len(stretch.steps), -1).clone()
    if run.first_is_plain:
        level = torch.maximum(level, first_errors)
    level[at] = known
    return torch.maximum(level, floor)
