"""Do two arms compute the same? Judged on one token path, so that one early difference does not decide the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from kvbench.decoding.forward import make_batch
from kvbench.decoding.protocol import Decoded, Decoder, PromptBatch, Unobserved
from kvbench.decoding.rounding import Logits, largest_difference, rounding_noise
from kvbench.decoding.sampling import Forced
from kvbench.records.agreement_figures import AgreementFigures, AgreementStep, RoundTripFigures

FEW_STEPS = 16  # the prefill and the steps after it, where a wrong position or a stale state already shows


@dataclass(frozen=True)
class Compared:
    """The arms of a run, as they are held against each other: `decoder(arm, forced)` follows a path that is given."""

    batches: Sequence[PromptBatch]
    batch_members: Sequence[Sequence[int]]  # prompt indices of each batch
    dtype: str  # that the model computes in
    caches: Sequence[str]  # the kind of each arm
    takes_masks: bool  # whether the first arm's attention can leave padding out
    inserts: bool  # whether messages stand between the new tokens
    # The decoder of an arm; `attention` takes the place of the arm's own.
    decoder: Callable[..., Decoder]
    # The same in plain PyTorch and at exact lengths, whatever the arm's engine: for shapes that come once. `exact`
    # leaves a quantised cache out too.
    unprepared: Callable[..., Decoder]
    # What an arm with a quantised cache is held against, and its worst error in steps; None for other arms.
    round_trip: Callable[[int, Forced], tuple[Decoder, Callable[[Decoded], float]] | None]
    # An implementation of the same attention other than the first arm's; None where there is none that fits.
    second_attention: Callable[[PromptBatch], str | None]


@dataclass(frozen=True)
class Divergence:
    """The first new token at which two free runs differ."""

    step: int
    sequence: int  # prompt index


def compare(
    run: Compared,
    candidate: int,
    baseline_tokens: Sequence[Sequence[int]],
    candidate_tokens: Sequence[Sequence[int]],
    extent: int | None,
) -> AgreementFigures:
    """Teacher-force arm 0 and the candidate along arm 0's tokens and compare their logits step by step.

    `extent` is the number of steps, None for all. The batch with the divergence in free running that rounding explains
    least is the one compared, up to that step at least; without a divergence it is the first batch.
    """
    divergence = _decisive(run, baseline_tokens, divergences(baseline_tokens, candidate_tokens))
    number, path = common_path(run, baseline_tokens, divergence, extent)
    batch, members = run.batches[number], run.batch_members[number]
    reference = _followed(run.decoder, 0, batch, path)
    judged = _followed(run.decoder, candidate, batch, path)

    def follow_unprepared(other: PromptBatch, other_path: torch.Tensor, attention: str | None = None) -> Logits:
        # Nor has a quantised cache, in which rounding tips codes: its noise would excuse what it loses.
        exact = partial(run.unprepared, exact=True)
        return _followed(exact, 0, other, other_path, attention)

    # An engine of the first arm has no part in the noise: were it wrong, the noise would excuse every candidate.
    noise = rounding_noise(
        follow_unprepared,
        batch,
        path,
        follow_unprepared(batch, path),
        takes_masks=run.takes_masks,
        second_attention=run.second_attention(batch),
    )
    run.decoder(0).prepare(None)  # puts the first arm's own attention back
    by_step = step_figures(reference, judged)
    scale = largest_logit(reference)
    followed = {0: reference, candidate: judged}
    round_trips = [_round_trip(run, arm, batch, path, logits, scale) for arm, logits in followed.items()]
    margin = None if divergence is None else _margin(reference, divergence, members)
    loudest = max((each.max_abs for each in noise if each.max_abs is not None), default=None)
    return AgreementFigures(
        candidate_arm=candidate,
        steps=path.shape[1],
        **overall(by_step),
        noise_abs=loudest,
        noise_rel=None if loudest is None or not math.isfinite(scale) else loudest / scale,
        first_divergence=None if divergence is None else divergence.step,
        divergence_sequence=None if divergence is None else divergence.sequence,
        top2_margin=margin,
        top2_margin_rel=None if margin is None else _finite(margin / scale),
        dtype=run.dtype,
        by_step=by_step,
        noise_ways=tuple(
            each if each.max_abs is None else each.model_copy(update={"noise_rel": each.max_abs / scale})
            for each in noise
        ),
        round_trips=tuple(each for each in round_trips if each is not None),
        compared_tokens=path.numel(),
    )


def common_path(
    run: Compared, tokens: Sequence[Sequence[int]], divergence: Divergence | None, extent: int | None
) -> tuple[int, torch.Tensor]:
    """The batch to compare on, by its number, and its first arm's tokens (batch, steps).

    A sequence that ended early goes on with its last token: any token can be followed, and no other is cut short.
    """
    number = 0 if divergence is None else _batch_of(run, divergence.sequence)
    rows = [list(tokens[index]) for index in run.batch_members[number]]
    longest = max(map(len, rows))
    steps = longest if extent is None else min(extent, longest)
    if divergence is not None:
        steps = min(longest, max(steps, divergence.step + 1))
    path = [(row + row[-1:] * (steps - len(row)))[:steps] for row in rows]
    return number, run.batches[number].input_ids.new_tensor(path)


def follow(decoder: Decoder, forced: Forced, batch: PromptBatch) -> Logits:
    """The logits of every step on the path that `forced` holds the decoder to, on the host."""
    decoder.prepare(None)
    decoder.run(batch, forced.path.shape[1], Unobserved())
    return [logits.cpu() for logits in forced.logits]


def step_figures(reference: Sequence[torch.Tensor], judged: Sequence[torch.Tensor]) -> tuple[AgreementStep, ...]:
    """Each step's logits (batch, vocabulary) held against the reference's, the worst over the rows."""
    scale = largest_logit(reference)
    steps = []
    for index, (a, b) in enumerate(zip(reference, judged, strict=True)):
        difference = float((a - b).abs().max())
        best = a.topk(2).values
        steps.append(
            AgreementStep(
                step=index,
                max_abs_logit_diff=_finite(difference),
                max_rel_logit_diff=_finite(difference / scale),
                kl=_finite(_kl(a, b)),
                flips=int((a.argmax(-1) != b.argmax(-1)).sum()),
                top2_margin=_finite(float((best[:, 0] - best[:, 1]).min())),
            )
        )
    return tuple(steps)


def overall(steps: Sequence[AgreementStep]) -> dict[str, Any]:
    """The worst of the steps under the names of `AgreementFigures`; None where a step's is."""
    return {
        "max_abs_logit_diff": _worst([step.max_abs_logit_diff for step in steps]),
        "max_rel_logit_diff": _worst([step.max_rel_logit_diff for step in steps]),
        "kl": _worst([step.kl for step in steps]),
        "argmax_flips": sum(step.flips for step in steps),
    }


def largest_logit(logits: Sequence[torch.Tensor]) -> float:
    """What relative differences are over; 1 for a model whose logits are all zero."""
    return float(torch.stack([step.abs().max() for step in logits]).max()) or 1.0


def divergences(baseline: Sequence[Sequence[int]], candidate: Sequence[Sequence[int]]) -> list[Divergence]:
    """Where each sequence that differs does so first, the earliest of all in front; one that ends earlier, there."""
    found = []
    for sequence, (a, b) in enumerate(zip(baseline, candidate, strict=True)):
        step = next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        if step is None and len(a) != len(b):
            step = min(len(a), len(b))
        if step is not None:
            found.append(Divergence(step, sequence))
    return sorted(found, key=lambda divergence: divergence.step)


def _decisive(run: Compared, tokens: Sequence[Sequence[int]], found: Sequence[Divergence]) -> Divergence | None:
    """The divergence at which the first arm was surest of its token: a near-tie elsewhere must not hide it.

    One plain pass over each prefix tells how sure. Where messages are inserted the tokens alone are no prefix, and the
    earliest stands for all.
    """
    if len(found) < 2 or run.inserts:
        return next(iter(found), None)

    def lead(divergence: Divergence) -> float:
        number = _batch_of(run, divergence.sequence)
        batch, row = run.batches[number], run.batch_members[number].index(divergence.sequence)
        own = tokens[divergence.sequence]
        if divergence.step >= len(own):
            return 0.0  # the first arm had ended
        prompt = batch.input_ids[row, -batch.lengths[row] :].tolist()
        prefix = make_batch(number, [prompt + list(own[: divergence.step])], 1, batch.input_ids.device)
        path = batch.input_ids.new_tensor([[own[divergence.step]]])
        best = _followed(run.unprepared, 0, prefix, path)[0][0].topk(2).values
        return float(best[0] - best[1])

    return max(found, key=lead)


def _round_trip(
    run: Compared, arm: int, batch: PromptBatch, path: torch.Tensor, logits: Logits, scale: float
) -> RoundTripFigures | None:
    forced = Forced(path)
    made = run.round_trip(arm, forced)
    if made is None:
        return None
    decoder, worst_steps = made
    decoder.prepare(None)
    steps = worst_steps(decoder.run(batch, path.shape[1], Unobserved()))
    apart = largest_difference(logits, [each.cpu() for each in forced.logits])
    return RoundTripFigures(
        arm=arm, cache=run.caches[arm], max_rel_logit_diff=_finite(apart / scale), worst_steps=_finite(steps)
    )


def _batch_of(run: Compared, sequence: int) -> int:
    return next(number for number, members in enumerate(run.batch_members) if sequence in members)


def _followed(
    decoder: Callable[..., Decoder], arm: int, batch: PromptBatch, path: torch.Tensor, attention: str | None = None
) -> Logits:
    forced = Forced(path)
    return follow(decoder(arm, forced, attention=attention), forced, batch)


def _worst(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


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
