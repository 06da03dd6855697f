"""How far the logits of two ways of decoding are apart: at each step, over all of them, and relative to the largest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from kvbench.records.agreement_figures import AgreementStep

Logits = list[torch.Tensor]  # one (rows, vocabulary) for each compared step


def errors(reference: Logits, judged: Logits) -> torch.Tensor:
    """Root mean square over the vocabulary of each row's difference from the reference, (steps, rows)."""
    return torch.stack([rms(_apart(a, b)) for a, b in zip(reference, judged, strict=True)])


def step_figures(reference: Logits, judged: Logits, steps: Sequence[int], batch: int = 0) -> tuple[AgreementStep, ...]:
    """Each step's logits (rows, vocabulary) held against the reference's, the worst over the rows."""
    scale = largest_logit(reference)
    found = []
    for step, a, b in zip(steps, reference, judged, strict=True):
        difference = float(_apart(a, b).abs().max())
        best = a.double().topk(2).values
        found.append(
            AgreementStep(
                step=step,
                batch=batch,
                max_abs_logit_diff=finite(difference),
                max_rel_logit_diff=finite(difference / scale),
                kl=finite(_kl(a, b)),
                flips=int((a.argmax(-1) != b.argmax(-1)).sum()),
                top2_margin=finite(float((best[:, 0] - best[:, 1]).min())),
            )
        )
    return tuple(found)


def overall(steps: Sequence[AgreementStep]) -> dict[str, Any]:
    """The worst of the steps under the names of `AgreementFigures`; None where a step's is."""
    return {
        "max_abs_logit_diff": _worst([step.max_abs_logit_diff for step in steps]),
        "max_rel_logit_diff": _worst([step.max_rel_logit_diff for step in steps]),
        "kl": _worst([step.kl for step in steps]),
        "argmax_flips": sum(step.flips for step in steps),
    }


def largest_difference(first: Logits, second: Logits) -> float:
    """The largest absolute difference over all steps; not a number if any is not."""
    # torch's max keeps a NaN, Python's would lose it.
    return float(torch.stack([_apart(a, b).abs().max() for a, b in zip(first, second, strict=True)]).max())


def largest_logit(logits: Logits) -> float:
    """What relative differences are over; 1 for a model whose logits are all zero. Tokens ruled out do not count."""
    return float(torch.stack([possible(step).abs().max() for step in logits]).max()) or 1.0


def _apart(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The difference in float64; nothing where both rule a token out with the same infinity."""
    a, b = first.double(), second.double()
    return torch.where(a == b, 0.0, a - b)


def possible(logits: torch.Tensor) -> torch.Tensor:
    """Logits with 0 for the tokens that the model rules out: a vocabulary may be padded with minus infinity."""
    return logits.masked_fill(logits == -math.inf, 0.0)


def rms(numbers: torch.Tensor) -> torch.Tensor:
    """Root mean square along the last dimension."""
    return numbers.square().mean(-1).sqrt()


def _worst(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known, default=None) if len(known) == len(values) else None


def finite(value: float) -> float | None:
    """None for what overflowed to infinity or NaN: such logits cannot be compared."""
    return value if math.isfinite(value) else None


def _kl(reference: torch.Tensor, judged: torch.Tensor) -> float:
    """Kullback-Leibler divergence in nats of the judged distribution from the reference's, the largest over rows."""
    p, q = reference.double().log_softmax(-1), judged.double().log_softmax(-1)
    return float(torch.where(p == q, 0.0, p.exp() * (p - q)).sum(-1).max().clamp(min=0))
