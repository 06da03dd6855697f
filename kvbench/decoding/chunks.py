"""Pieces in which tokens are handed to a cache: a long prompt need not go through the model in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Chunks:
    """Pieces of `size` tokens, of which the last one may be smaller; None: everything at once."""

    size: int | None = None

    def spans(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """First token and end of every piece of the tokens from `begin` up to `end`."""
        size = self.size or max(1, end - begin)
        for start in range(begin, end, size):
            yield start, min(start + size, end)


WHOLE = Chunks()
