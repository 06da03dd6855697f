"""Where an arm with a cache begins to differ, and what its cache holds there beside what a single pass builds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from kvbench.decoding.logit_differences import largest_logit
from kvbench.decoding.protocol import Decoder, PromptBatch, Unobserved
from kvbench.decoding.rounding import ReorderedProducts, reversed_order
from kvbench.decoding.routing import Routes
from kvbench.decoding.sampling import Forced
from kvbench.decoding.token_path import Compared, SinglePass, Stretch, along, common_path
from kvbench.errors import reason_of
from kvbench.records.agreement_figures import AgreementFigures, CacheDifference, FaultPlace
from kvbench.rounding_limits import allowed_at_worst, allowed_ratio, outer_gate, resolution

KEYS, VALUES = "keys", "values"
ROUNDING_MARGIN = 5.0  # times what other sums of the same pass differ by: more is no rounding
SAME_DIRECTION = 0.9999  # cosine from which two tensors differ by a factor alone

Ratios = Mapping[int, Sequence[tuple[int, float]]]  # by prompt: a step, and the error there over rounding's


@dataclass(frozen=True)
class _Suspect:
    """A candidate that rounding does not explain, at the first place where it shows."""

    batch: PromptBatch
    path: torch.Tensor  # (rows, new tokens)
    row: int
    sequence: int  # prompt index
    step: int
    context: int  # tokens behind that new token, without padding
    only_padded: bool
    edge: str
    chunk: int | None  # tokens in which the prompt was handed over; None: it was not, or not before this step
    every_step: bool  # whether every compared step from there on differs
    baseline: torch.Tensor  # the first arm's logits (vocabulary,) there
    allowed: float  # largest difference from them that counts as rounding


def place_of_fault(
    run: Compared, arm: int, ratios: Ratios, figures: AgreementFigures, tokens: Sequence[Sequence[int]]
) -> FaultPlace | None:
    """Where an arm first differs by more than rounding and what is seen there; None where it does not.

    `ratios` are its errors over rounding's, `tokens` the first arm's, by prompt.
    """
    if figures.error is None or run.single is None:
        return None
    measured = bool(figures.error.reference)
    limit = allowed_at_worst(second=True, measured=measured)
    worst = max(ratio for row in ratios.values() for _, ratio in row)
    limit = limit if worst > limit else allowed_ratio(len(figures.by_step), measured=measured)
    wrong = sorted((step, sequence) for sequence, row in ratios.items() for step, ratio in row if not ratio <= limit)
    if not wrong:
        return None
    step, sequence = wrong[0]
    number = next(number for number, members in enumerate(run.batch_members) if sequence in members)
    batch, members = run.batches[number], run.batch_members[number]
    row = list(members).index(sequence)
    path = common_path(batch, members, tokens)
    lengths = {
        index: batch.lengths[place]
        for batch, some in zip(run.batches, run.batch_members, strict=True)
        for place, index in enumerate(some)
    }
    longest = {
        index: batch.longest for batch, some in zip(run.batches, run.batch_members, strict=True) for index in some
    }
    guilty = {each for _, each in wrong}
    padded = {index for index in lengths if lengths[index] < longest[index]}
    context = run.context(lengths[sequence], step)
    stretch = Stretch(number, batch, members, path, (step,), (step,), Routes(None, 0))
    baseline = along(run.unprepared, 0, stretch, exact=True)
    later = [ratio for each, ratio in ratios[sequence] if each >= step]
    suspect = _Suspect(
        batch=batch,
        path=path,
        row=row,
        sequence=sequence,
        step=step,
        context=context,
        only_padded=bool(padded) and guilty <= padded and guilty != set(lengths),
        edge=run.edges.name(context) or run.edges.name(batch.longest + step),
        chunk=run.chunk if step == 0 and run.chunk and run.chunk < context else None,
        every_step=all(not ratio <= limit for ratio in later),
        baseline=baseline[0][row],
        allowed=max(figures.noise_abs or 0.0, resolution(run.dtype) * largest_logit(baseline)) * limit,
    )
    found = FaultPlace(
        sequence=suspect.sequence,
        step=suspect.step,
        context=suspect.context,
        only_padded_rows=suspect.only_padded,
        edge=suspect.edge,
        chunk=suspect.chunk,
        every_step=suspect.every_step,
        kind="step",
    )
    try:
        return found.model_copy(update=_seen(suspect, run.dtype, partial(run.decoder, arm), run.single))
    except Exception as failure:  # the verdict stands without it: a model may refuse any of these passes
        why = f"{type(failure).__name__}: {reason_of(failure)}"
        return found.model_copy(update={"kind": "unseen", "unseen": why})


def _seen(suspect: _Suspect, dtype: str, decoder: Callable[[Forced], Decoder], single: SinglePass) -> dict[str, Any]:
    """The kind of fault that an arm, `decoder(forced)`, shows where it begins to differ, and what tells it."""
    here = _prefix(suspect, suspect.step)
    cache, logits = _run(decoder, suspect)
    again = _run(decoder, suspect, seed=1)[1]
    if not torch.equal(logits, again):
        return {"kind": "random"}
    built = single.fill(here)
    with ReorderedProducts(reversed_order):
        tolerance = max(outer_gate(dtype) / 2, ROUNDING_MARGIN * _rounding(built, single.fill(here), suspect.row))
    # Do further tokens change what was kept of those before them? Then no cache can hold it. Two fewer, because
    # dynamic rotary embeddings stay long until a pass is shorter than the original context.
    other = single.fill(_prefix(suspect, max(0, suspect.step - 2) if suspect.step else 1))
    changed = next(_differences(other, built, suspect.row, tolerance, shared=True), None)
    if changed is not None:
        by_length = changed.layer == 0 and changed.part == KEYS
        return {"kind": "rotary_length" if by_length else "looks_ahead", "cache": changed}
    window = _window(cache)
    if suspect.step and window is not None and window < suspect.context:
        forgets_nothing = single.step(single.fill(_prefix(suspect, suspect.step - 1)), here)[suspect.row]
        apart = float((forgets_nothing.double() - suspect.baseline.double()).abs().max())
        if apart <= suspect.allowed:
            return {"kind": "window", "window": window}
    held = _narrow(cache, dtype) or next(_differences(cache, built, suspect.row, tolerance), None)
    if held is not None:
        return {"kind": "cache", "cache": held}
    return {"kind": "step"}


def _prefix(suspect: _Suspect, step: int) -> PromptBatch:
    """The batch with the path's tokens up to a step as its prompt."""
    batch = suspect.batch
    ids = torch.cat([batch.input_ids, suspect.path[:, :step].to(batch.input_ids)], dim=1)
    return PromptBatch(batch.index, ids, batch.positions, batch.mask, tuple(length + step for length in batch.lengths))


def _run(decoder: Callable[[Forced], Decoder], suspect: _Suspect, seed: int | None = None) -> tuple[Any, torch.Tensor]:
    forced = Forced(suspect.path, (suspect.step,))
    made = decoder(forced)
    made.prepare(None)
    if seed is not None:  # what depends on random numbers computes otherwise with others
        torch.manual_seed(seed)
    decoded = made.run(suspect.batch, forced.length, Unobserved())
    return decoded.cache, forced.logits[0]


# Two caches, layer by layer.


def _narrow(cache: Any, dtype: str) -> CacheDifference | None:
    """The first layer that keeps keys or values in fewer bits than the model computes in."""
    wide = torch.finfo(getattr(torch, dtype)).bits if dtype.startswith(("float", "bfloat")) else 0
    for index, layer in enumerate(_layers(cache)):
        for name, tensor in _tensors(layer).items():
            if name in (KEYS, VALUES) and torch.finfo(tensor.dtype).bits < wide:
                held = str(tensor.dtype).removeprefix("torch.")
                return CacheDifference(layer=index, part=name, held=held, kind=f"they are kept in {held}")
    return None


def _differences(
    cache: Any, built: Any, row: int, tolerance: float, *, shared: bool = False
) -> Iterator[CacheDifference]:
    """What differs beyond rounding, from the first layer on; with `shared` only tokens that both hold are looked at."""
    for index, (layer, right) in enumerate(zip(_layers(cache), _layers(built), strict=False)):
        tensors, expected = _tensors(layer), _tensors(right)
        parts = []
        for name in (
            *(each for each in (KEYS, VALUES) if each in expected),
            *(each for each in expected if each not in (KEYS, VALUES)),
        ):
            if name in tensors and not (shared and name not in (KEYS, VALUES)):
                difference = _difference(index, name, tensors[name], expected[name], row, tolerance, shared=shared)
                if difference is not None:
                    parts.append(difference)
        if parts:
            both = {each.part for each in parts} >= {KEYS, VALUES}
            yield parts[0].model_copy(update={"part": "keys and values"}) if both else parts[0]


def _difference(
    layer: int, name: str, held: torch.Tensor, right: torch.Tensor, row: int, tolerance: float, *, shared: bool
) -> CacheDifference | None:
    if held.ndim != right.ndim or held.shape[0] <= row or right.shape[0] <= row:
        return None
    own, expected = held[row].double(), right[row].double()
    first = 0
    if name in (KEYS, VALUES) and own.ndim >= 2:
        if shared:
            length = min(own.shape[-2], expected.shape[-2])
            own, expected = own[..., :length, :], expected[..., :length, :]
        elif own.shape[-2] < expected.shape[-2]:  # a window keeps the newest
            first = expected.shape[-2] - own.shape[-2]
            expected = expected[..., first:, :]
        else:  # a static cache has room for more
            own = own[..., : expected.shape[-2], :]
    if own.shape != expected.shape or not own.numel():
        return None
    if own.ndim < 2 or name not in (KEYS, VALUES):
        apart = _relative(own.flatten(), expected.flatten())
        wrong = [0] if not float(apart) <= tolerance else []
        return CacheDifference(layer=layer, part=name, kind="", held=str(held.dtype)[6:]) if wrong else None
    by_token = _relative(own.transpose(0, -2).flatten(1), expected.transpose(0, -2).flatten(1))
    wrong = [at for at, apart in enumerate(by_token.tolist()) if not apart <= tolerance]
    if not wrong:
        return None
    return CacheDifference(
        layer=layer,
        part=name,
        first_position=first + wrong[0],
        last_position=first + wrong[-1],
        positions=len(wrong),
        tokens=first + expected.shape[-2],
        held=str(held.dtype).removeprefix("torch."),
        kind=_kind(own, expected, wrong, held, right, row, first),
    )


def _kind(
    own: torch.Tensor,
    expected: torch.Tensor,
    wrong: Sequence[int],
    held: torch.Tensor,
    right: torch.Tensor,
    row: int,
    first: int,
) -> str:
    """What the wrong tokens' keys or values look like, in words; empty where they look like nothing known."""
    a, b = own[..., wrong, :], expected[..., wrong, :]
    if not bool(a.any()):
        return "they are zero"
    factor = float((a * b).sum() / b.square().sum())
    if float((a * b).sum() / (a.norm() * b.norm())) > SAME_DIRECTION:
        return "they are rounded" if abs(factor - 1) < 1e-3 else f"they are {factor:.4g} times what they should be"
    for shift, words in ((1, "they are those of the token after"), (-1, "they are those of the token before")):
        inner = [at for at in wrong if 0 <= at + shift < expected.shape[-2]]
        if (
            inner
            and float(_relative(own[..., inner, :].flatten(), expected[..., [at + shift for at in inner], :].flatten()))
            < 1e-2
        ):
            return words
    for other in range(right.shape[0]):
        if other != row and right.ndim == held.ndim:
            theirs = right[other].double()[..., first:, :][..., wrong, :]
            if theirs.shape == a.shape and float(_relative(a.flatten(), theirs.flatten())) < 1e-2:
                return "they are another sequence's"
    return ""


def _relative(own: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Root mean square of the difference over that of what is expected, along the last dimension."""
    scale = expected.square().mean(-1).sqrt().clamp(min=1e-30)
    return (own - expected).square().mean(-1).sqrt() / scale


def _rounding(built: Any, again: Any, row: int) -> float:
    """The largest relative difference of a token's keys or values in two caches of the same pass."""
    worst = 0.0
    for one, other in zip(_layers(built), _layers(again), strict=False):
        first, second = _tensors(one), _tensors(other)
        for name in {KEYS, VALUES} & first.keys() & second.keys():
            a, b = (each[name][row].double().transpose(0, -2).flatten(1) for each in (first, second))
            worst = max(worst, float(_relative(a, b).max()))
    return worst


def _layers(cache: Any) -> Sequence[Any]:
    return getattr(cache, "layers", ()) or ()


def _tensors(layer: Any) -> dict[str, torch.Tensor]:
    """A layer's tensors by name, those in mappings too."""
    found: dict[str, torch.Tensor] = {}
    for name, value in vars(layer).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
            found[name] = value
        elif isinstance(value, Mapping):
            found.update({f"{name}.{key}": each for key, each in value.items() if isinstance(each, torch.Tensor)})
    return found


def _window(cache: Any) -> int | None:
    """Tokens that the cache's shortest sliding layer keeps for the next one; None where none slides."""
    windows = [
        getattr(layer, "sliding_window", None) for layer in _layers(cache) if getattr(layer, "is_sliding", False)
    ]
    return min((window for window in windows if isinstance(window, int)), default=None)
