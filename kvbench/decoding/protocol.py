"""The seam between decoding and measuring. A decoder knows nothing of clocks; an observer knows nothing of caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch


class Pass(NamedTuple):
    """What one forward pass was given: tokens per sequence, and past tokens before and after it (None: no past)."""

    submitted: int
    past_before: int | None
    past_after: int | None


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of one batch on the device, left-padded, with room planned for the new tokens.

    `input_ids` (batch, longest), `positions` (batch, longest + new tokens); `mask` like positions, 1 where a token is
    real, or None when all prompts have one length.
    """

    index: int
    input_ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor | None
    lengths: tuple[int, ...]
    shared: int = 0  # tokens that all rows begin with, short of a whole prompt; 0 where padding stands before them

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt: the columns of `input_ids`."""
        return int(self.input_ids.shape[1])


@dataclass
class Decoded:
    """What a run of a decoder left: new ids (batch, steps + 1) still on the device, the passes, and the cache.

    A script's are lists. `made` has the new tokens of each pass where passes check proposed tokens and may make several
    (one sequence); it is empty where a pass makes one. `trace` holds a traced run's token confidence
    (`tracing.Traced`), already on the host.
    """

    new_ids: Any
    passes: Sequence[Pass]
    cache: Any | None
    trace: Any | None = None
    made: tuple[int, ...] = ()

    def sequences(self, stop_ids: Sequence[int]) -> list[list[int]]:
        """New ids of each sequence, up to and including its stop id. Reads from the device."""
        rows: list[list[int]] = self.new_ids if isinstance(self.new_ids, list) else self.new_ids.tolist()
        ends = (next((index for index, token in enumerate(row) if token in stop_ids), len(row)) for row in rows)
        return [row[: end + 1] for row, end in zip(rows, ends, strict=True)]

    def held_passes(self) -> Sequence[Pass]:
        """The passes, the last one's past as the cache itself tells it: one look at the device for the whole run.

        Within a run a cache whose length is on the device is not asked; had it not grown by what was submitted at each
        step, its length would be wrong at the end.
        """
        if self.cache is None or not self.passes:
            return self.passes
        return [*self.passes[:-1], self.passes[-1]._replace(past_after=int(self.cache.get_seq_length()))]


class Observer(Protocol):
    """Told of every new token as soon as the host has submitted the work that makes it."""

    def on_token(self, index: int, token_ids: Any) -> None:
        """`token_ids` (batch,) may still be in the making on the device: reading it is a synchronisation."""


class Chooser(Protocol):
    """Chooses the next token of every sequence from its scores."""

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """`ids` (batch, context) and `logits` (batch, vocabulary) to token ids (batch,)."""

    def settled(self, index: int) -> torch.Tensor | None:
        """Token ids (batch,) at new token `index` when they stand whatever the logits are; None where logits decide."""


class Decoder(Protocol):
    """One way of turning a batch of prompts into new tokens."""

    def prepare(self, block: int | None) -> None:
        """Everything that must not be timed: seeds the draws, sets the attention. `block` is None outside of blocks."""

    def run(self, batch: Any, new_tokens: int, observer: Observer, stop_ids: Sequence[int] = ()) -> Decoded:
        """Prefill, then decode until every sequence has `new_tokens` new tokens or has met a stop id."""


class Unobserved:
    """The observer of an untimed run."""

    def on_token(self, index: int, token_ids: Any) -> None:
        """Does nothing."""
