"""The ranks of a run: the processes that hold one model together and decode it in step. No torch.

Every rank runs the same job over the same plan. Whatever is decided by a clock, a sensor or the memory that is left is
decided by rank 0 and told to the others (`led`), else they would part ways and wait for each other for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

COLLECTIVE_TIMEOUT_S = 300.0  # of one exchange between ranks; a run between two of them takes seconds


@dataclass(frozen=True)
class RankPlace:
    """Where a process stands among the ranks. `store` is the file through which they meet.

    Without one they meet as torchrun's variables say.
    """

    rank: int
    size: int
    local_rank: int
    store: str | None
    timeout_s: float = COLLECTIVE_TIMEOUT_S


def launched_place(environ: Mapping[str, str] = os.environ) -> RankPlace | None:
    """The place that torchrun, or a launcher like it, has given this process; None where it was started alone."""
    words = [environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(word.isdecimal() for word in words[:2]) or int(words[1]) < 2:
        return None
    rank, size = map(int, words[:2])
    return RankPlace(rank, size, int(words[2]) if words[2].isdecimal() else rank, None)


class Team(Protocol):
    """The ranks of a run as one of them sees them. Every rank must make the same calls in the same order."""

    @property
    def rank(self) -> int:
        """This process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def meet(self) -> None:
        """Wait until every rank has come here."""

    def led(self, make: Callable[[], T]) -> T:
        """What rank 0 makes of `make`, on every rank; no other rank calls it."""

    def gathered(self, value: T) -> tuple[T, ...]:
        """The values of all ranks in their order, on every rank."""


class Alone:
    """A run in one process."""

    rank, size = 0, 1

    def meet(self) -> None:
        """There is nobody to wait for."""

    def led(self, make: Callable[[], T]) -> T:
        """Its own."""
        return make()

    def gathered(self, value: T) -> tuple[T, ...]:
        """Its own alone."""
        return (value,)


class OfOneScript(Alone):
    """The ranks of a scripted model, which read one script: each knows what the others would say."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def gathered(self, value: T) -> tuple[T, ...]:
        """Its own, once for each rank."""
        return (value,) * self.size


ALONE: Any = Alone()
