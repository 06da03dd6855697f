"""At which new tokens the arms' logits are compared: where caches go wrong, and evenly between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FEW = 24  # steps of one batch besides its edges; a run of fewer new tokens is compared whole
FEW_IN_ALL = 96  # of all batches, which share them
LEAST = 6  # of each batch, however many there are
FIRST = 3  # the prefill and the two steps after it: a wrong position or a stale state shows there
BLOCK = 64  # kernels split rows and caches grow by this many tokens, or by multiples of it


@dataclass(frozen=True)
class Edges:
    """Context lengths, in tokens, behind which a pass computes in another way than before, with what lies there.

    `lengths` are single ones: a layer's window, the length at which rotary embeddings change. `multiples` are sizes
    whose every multiple is one: buckets, chunks.
    """

    lengths: Mapping[int, str] = field(default_factory=dict)
    multiples: Mapping[int, str] = field(default_factory=lambda: {BLOCK: f"a multiple of {BLOCK} tokens"})

    def around(self, context: int) -> bool:
        """Whether a pass with so many tokens is the last before an edge or one of the two behind it."""
        return any(self._at(before) for before in (context, context - 1, context - 2) if before > 0)

    def name(self, context: int) -> str:
        """What a pass with so many tokens is the first to lie behind, or the last to reach; empty where nothing is."""
        return self._at(context - 1) or self._at(context)

    def beyond(self, context: int) -> list[str]:
        """The single edges that a run up to so many tokens does not reach."""
        return [what for length, what in sorted(self.lengths.items()) if length >= context]

    def _at(self, tokens: int) -> str:
        if tokens <= 0:
            return ""
        named = self.lengths.get(tokens)
        return named or next((what for size, what in self.multiples.items() if tokens % size == 0), "")


def compared_steps(
    new_tokens: int,
    contexts: Iterable[Sequence[int]],
    edges: Edges,
    *,
    batch: int,
    batches: int,
    wanted: Iterable[int] = (),
) -> tuple[int, ...]:
    """Indices of the new tokens of one batch at which few steps are compared, ascending.

    `contexts` has the number of tokens behind each new token, one sequence for every length of prompt in the batch.
    `wanted` are compared in any case. Batches that share a budget look at different steps between their edges.
    """
    budget = min(FEW, max(LEAST, FEW_IN_ALL // batches))
    if new_tokens <= budget:
        return tuple(range(new_tokens))
    chosen = {step for step in wanted if 0 <= step < new_tokens}
    chosen |= {*range(min(FIRST, budget - 1)), new_tokens - 1}
    at_edges = sorted({step for row in contexts for step, context in enumerate(row) if edges.around(context)})
    chosen |= set(_spread(at_edges, budget, batch, batches))
    chosen |= set(_spread(range(new_tokens), budget, batch, batches))
    return tuple(sorted(chosen))


def _spread(steps: Sequence[int], most: int, batch: int, batches: int) -> Sequence[int]:
    """At most so many of them, evenly apart; each batch begins a little further on."""
    if len(steps) <= most:
        return steps
    offset = batch / batches
    return [steps[int((index + offset) * len(steps) / most)] for index in range(most)]
