"""Lengths to which passes without a cache are padded, so that few shapes are compiled or captured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Buckets:
    """Multiples of `size` tokens, but never more than `most`, the model's longest context."""

    size: int = 1
    most: int | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing is ever padded."""
        return self.size == 1

    def padded(self, tokens: int) -> int:
        """The tokens that are submitted for a context of so many."""
        bucket = -(-tokens // self.size) * self.size
        return bucket if self.most is None else max(tokens, min(bucket, self.most))


EXACT = Buckets()
