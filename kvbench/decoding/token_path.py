"""Arms along one token path: what of a run is compared, at which steps, and the passes that follow the path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from kvbench.decoding.compared_steps import Edges, compared_steps
from kvbench.decoding.logit_differences import Logits
from kvbench.decoding.protocol import Decoded, Decoder, PromptBatch, Unobserved
from kvbench.decoding.rounding import OtherOrder
from kvbench.decoding.routing import Flips, Routes
from kvbench.decoding.sampling import Forced

MOST_LOGITS = 2**28  # numbers kept of one arm at a time; more steps are compared in several goes


@dataclass(frozen=True)
class SinglePass:
    """A model's own way to a cache: everything in one pass, nothing forgotten.

    `fill(batch)` gives the cache that a pass over a batch's `input_ids` leaves; `step(cache, batch)` the logits (rows,
    vocabulary) of one more pass over its last column.
    """

    fill: Callable[[PromptBatch], Any]
    step: Callable[[Any, PromptBatch], torch.Tensor]


@dataclass(frozen=True)
class Compared:
    """The arms of a run, as they are held against each other: `decoder(arm, forced)` follows a path that is given."""

    batches: Sequence[PromptBatch]
    batch_members: Sequence[Sequence[int]]  # prompt indices of each batch
    dtype: str  # that the model computes in
    caches: Sequence[str]  # the kind of each arm
    takes_masks: bool  # whether the first arm's attention can leave padding out
    vocabulary: int
    edges: Edges  # context lengths behind which something is computed otherwise
    whole: bool  # whether all steps are compared
    # Tokens behind a new token, from the prompt's length and the new token's index: messages may stand between.
    context: Callable[[int, int], int]
    # The decoder of an arm; `attention` takes the place of the arm's own.
    decoder: Callable[..., Decoder]
    # The same in plain PyTorch and at exact lengths, whatever the arm's engine: for shapes that come once. `exact`
    # leaves a quantised cache out too.
    unprepared: Callable[..., Decoder]
    # What an arm with a quantised cache is held against, and its worst error in steps; None for other arms.
    round_trip: Callable[[int, Forced], tuple[Decoder, Callable[[Decoded], float]] | None]
    # An implementation of the same attention other than the first arm's; None where there is none that fits.
    second_attention: Callable[[PromptBatch], str | None]
    # Recompute by the same model in a wider type, and that type; None where rounding can be measured without it or
    # there is no room for one.
    wider: Callable[[PromptBatch, Forced], Logits] | None = None
    wider_dtype: str = ""
    first_is_plain: bool = False  # whether the first arm recomputes in plain PyTorch, as `unprepared` does
    without_wider: str = ""  # why there is none, in words
    model: Any = None  # whose routers choose among `experts`; with none there is nothing to choose
    experts: int = 0
    single: SinglePass | None = None  # what shows where an arm's cache is wrong; None without it
    chunk: int | None = None  # tokens in which a prompt is handed over; None: in one pass
    repeats: Sequence[bool] = ()  # of each arm: whether an engine repeats its passes, into which nothing can look
    wanted_steps: tuple[int, ...] = ()  # compared whatever else is

    def chooses_freely(self, arm: int) -> bool:
        """Whether routers choose the experts of an arm, or of the first, though others were prescribed to them."""
        return bool(self.experts and self.repeats and (self.repeats[0] or self.repeats[arm]))


@dataclass(frozen=True)
class Divergence:
    """The first new token at which two free runs differ."""

    step: int
    sequence: int  # prompt index


@dataclass(frozen=True)
class Stretch:
    """Some compared steps of one batch, as many as fit in memory together."""

    number: int  # the batch's
    batch: PromptBatch
    members: Sequence[int]
    path: torch.Tensor  # the first arm's tokens (rows, new tokens)
    steps: tuple[int, ...]
    rounding_steps: tuple[int, ...]  # of them those at which other orders of summing are tried
    routes: Routes  # the experts that the path's tokens go to


def stretches(
    run: Compared, tokens: Sequence[Sequence[Sequence[int]]], parted: Sequence[Divergence]
) -> Iterator[Stretch]:
    """All steps that are compared, in pieces; where free runs `parted` is among them."""
    no_routes = Routes(None, 0)
    for number, (batch, members) in enumerate(zip(run.batches, run.batch_members, strict=True)):
        path = common_path(batch, members, tokens[0])
        new_tokens = path.shape[1]
        wanted = {*run.wanted_steps, *(each.step for each in parted if each.sequence in members)}
        few = compared_steps(
            new_tokens,
            [[run.context(length, step) for step in range(new_tokens)] for length in sorted({*batch.lengths})],
            run.edges,
            batch=number,
            batches=len(run.batches),
            wanted=(step for step in wanted if step < new_tokens),
        )
        steps = tuple(range(new_tokens)) if run.whole else few
        most = max(1, MOST_LOGITS // (len(members) * max(1, run.vocabulary)))
        for begin in range(0, len(steps), most):
            some = steps[begin : begin + most]
            yield Stretch(
                number, batch, members, path, some, tuple(step for step in some if step in few) or some[:1], no_routes
            )


def with_routes(run: Compared, stretch: Stretch) -> Stretch:
    """The same with the experts that the reference sends its tokens to."""
    routes = Routes(run.model, run.experts)
    if run.experts:
        last = (stretch.path.shape[1] - 1,)
        with routes.noted(stretch.batch):
            if run.wider is not None:
                run.wider(stretch.batch, Forced(stretch.path, last))
            else:
                along(run.unprepared, 0, replace(stretch, steps=last), exact=True)
    return replace(stretch, routes=routes)


def common_path(batch: PromptBatch, members: Sequence[int], tokens: Sequence[Sequence[int]]) -> torch.Tensor:
    """The tokens (rows, new tokens) of a batch's prompts, on its device.

    A sequence that ended early goes on with its last token: any token can be followed, and no other is cut short.
    """
    rows = [list(tokens[index]) for index in members]
    longest = max(map(len, rows))
    return batch.input_ids.new_tensor([row + row[-1:] * (longest - len(row)) for row in rows])


def follow(decoder: Decoder, forced: Forced, batch: PromptBatch) -> Logits:
    """The logits of the compared steps on the path that `forced` holds the decoder to, on the host."""
    decoder.prepare(None)
    decoder.run(batch, forced.length, Unobserved())
    return forced.logits


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


def as_timed(run: Compared, arm: int, stretch: Stretch) -> tuple[Logits, Flips]:
    """An arm as it is timed, with the prescribed experts, and where its routers would have chosen others."""
    with stretch.routes.prescribed(stretch.batch) as flips:
        return along(run.decoder, arm, stretch), flips


def followed(
    decoder: Callable[..., Decoder], arm: int, stretch: Stretch, order: OtherOrder | None = None, **how: Any
) -> Logits:
    """The logits of a decoder along a stretch, with the prescribed experts."""
    with stretch.routes.prescribed(stretch.batch):
        return along(decoder, arm, stretch, order, **how)


def along(
    decoder: Callable[..., Decoder], arm: int, stretch: Stretch, order: OtherOrder | None = None, **how: Any
) -> Logits:
    """The logits of a decoder along a stretch, whose rows `order` may have there twice."""
    repeats = len(stretch.batch.lengths) // len(stretch.members)  # rows may be there twice
    forced = Forced(stretch.path.repeat(repeats, 1), stretch.steps)
    return follow(decoder(arm, forced, attention=order.attention if order else None, **how), forced, stretch.batch)
