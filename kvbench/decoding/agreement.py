"""Do two arms compute the same? Judged on one token path, so that one early difference does not decide the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from kvbench.decoding.protocol import Decoder, PromptBatch, Unobserved
from kvbench.decoding.sampling import Forced
from kvbench.measuring.samples import AgreementFigures

FEW_STEPS = 16  # the prefill and the steps after it, where a wrong position or a stale state already shows
NOISE_PADDING = 3  # odd, so that rows are laid out and blocked differently in every kernel


class Comparable(Protocol):
    """What a session offers to be compared."""

    @property
    def batches(self) -> Sequence[PromptBatch]:
        """The prompts on the device."""

    @property
    def batch_members(self) -> Sequence[Sequence[int]]:
        """Prompt indices of each batch."""

    @property
    def dtype(self) -> str:
        """The type that the model computes in."""

    @property
    def takes_masks(self) -> bool:
        """Whether the first arm's attention can leave padding out."""

    def decoder(self, arm: int, forced: Forced | None = None) -> Decoder:
        """The decoder of an arm, on a forced path."""


@dataclass(frozen=True)
class Divergence:
    """The first new token at which two free runs differ."""

    step: int
    sequence: int  # prompt index


def compare(
    session: Comparable,
    candidate: int,
    baseline_tokens: Sequence[Sequence[int]],
    candidate_tokens: Sequence[Sequence[int]],
    extent: int | None,
) -> AgreementFigures:
    """Teacher-force arm 0 and the candidate along arm 0's tokens and compare their logits step by step.

    `extent` is the number of steps, None for all. The batch with the first divergence in free running is the one
    compared, up to that step at least; without a divergence it is the first batch.
    """
    divergence = first_divergence(baseline_tokens, candidate_tokens)
    number = 0 if divergence is None else _batch_of(session, divergence.sequence)
    batch, members = session.batches[number], session.batch_members[number]
    longest_path = min(len(baseline_tokens[index]) for index in members)
    steps = longest_path if extent is None else min(extent, longest_path)
    if divergence is not None:
        steps = min(longest_path, max(steps, divergence.step + 1))
    path = batch.input_ids.new_tensor([list(baseline_tokens[index][:steps]) for index in members])
    reference = _forced_logits(session, 0, batch, path)
    judged = _forced_logits(session, candidate, batch, path)
    noise = _noise(session, batch, path, reference)
    scale = max(float(step.abs().max()) for step in reference)
    difference = _largest_difference(reference, judged)
    return AgreementFigures(
        candidate_arm=candidate,
        steps=steps,
        max_abs_logit_diff=_finite(difference),
        max_rel_logit_diff=_finite(difference / scale),
        kl=_finite(max(_kl(a, b) for a, b in zip(reference, judged, strict=True))),
        argmax_flips=sum(int((a.argmax(-1) != b.argmax(-1)).sum()) for a, b in zip(reference, judged, strict=True)),
        noise_abs=_finite(noise),
        noise_rel=_finite(noise / scale),
        first_divergence=None if divergence is None else divergence.step,
        divergence_sequence=None if divergence is None else divergence.sequence,
        top2_margin=None if divergence is None else _margin(reference, divergence, members),
        dtype=session.dtype,
    )


def first_divergence(baseline: Sequence[Sequence[int]], candidate: Sequence[Sequence[int]]) -> Divergence | None:
    """The earliest step at which any sequence differs; one that merely ends earlier differs where it ends."""
    found = []
    for sequence, (a, b) in enumerate(zip(baseline, candidate, strict=True)):
        step = next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        if step is None and len(a) != len(b):
            step = min(len(a), len(b))
        if step is not None:
            found.append(Divergence(step, sequence))
    return min(found, key=lambda divergence: divergence.step, default=None)


def _batch_of(session: Comparable, sequence: int) -> int:
    return next(number for number, members in enumerate(session.batch_members) if sequence in members)


def _forced_logits(session: Comparable, arm: int, batch: PromptBatch, path: torch.Tensor) -> list[torch.Tensor]:
    forced = Forced(path)
    decoder = session.decoder(arm, forced)
    decoder.prepare(None)
    decoder.run(batch, path.shape[1], Unobserved())
    return [logits.cpu() for logits in forced.logits]


def _noise(session: Comparable, batch: PromptBatch, path: torch.Tensor, reference: list[torch.Tensor]) -> float:
    """What rounding alone does here: the baseline against itself, computed in other shapes.

    Twice as many rows, and a few columns of padding, make kernels split and sum in another order; the mathematics
    is the same. Nothing in this depends on the candidate.
    """
    rows = batch.input_ids.shape[0]
    doubled = _forced_logits(session, 0, _doubled(batch), path.repeat(2, 1))
    noise = _largest_difference(reference, [step[:rows] for step in doubled])
    if session.takes_masks:
        noise = max(noise, _largest_difference(reference, _forced_logits(session, 0, _padded(batch), path)))
    return noise


def _doubled(batch: PromptBatch) -> PromptBatch:
    mask = None if batch.mask is None else batch.mask.repeat(2, 1)
    rows = batch.input_ids.shape[0]
    positions = batch.positions.expand(rows, -1).repeat(2, 1)
    return PromptBatch(batch.index, batch.input_ids.repeat(2, 1), positions, mask, batch.lengths * 2)


def _padded(batch: PromptBatch) -> PromptBatch:
    rows, total = batch.input_ids.shape[0], batch.positions.shape[1]
    mask = batch.positions.new_ones((rows, total)) if batch.mask is None else batch.mask
    blank = (rows, NOISE_PADDING)
    return PromptBatch(
        batch.index,
        torch.cat([batch.input_ids[:, :1].expand(blank), batch.input_ids], dim=1),
        torch.cat([batch.positions.new_zeros(blank), batch.positions.expand(rows, -1)], dim=1),
        torch.cat([mask.new_zeros(blank), mask], dim=1),
        batch.lengths,
    )


def _largest_difference(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> float:
    # torch's max keeps a NaN, Python's would lose it.
    return float(torch.stack([(a - b).abs().max() for a, b in zip(first, second, strict=True)]).max())


def _finite(value: float) -> float | None:
    """None for what overflowed to infinity or NaN: such logits cannot be compared."""
    return value if math.isfinite(value) else None


def _kl(reference: torch.Tensor, judged: torch.Tensor) -> float:
    """Kullback-Leibler divergence in nats of the judged distribution from the reference's, the largest over rows."""
    p, q = reference.double().log_softmax(-1), judged.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).max().clamp(min=0))


def _margin(reference: Sequence[torch.Tensor], divergence: Divergence, members: Sequence[int]) -> float | None:
    """The reference's lead of its best over its second-best token where the free runs part."""
    if divergence.step >= len(reference):
        return None
    best = reference[divergence.step][members.index(divergence.sequence)].topk(2).values
    return float(best[0] - best[1])
