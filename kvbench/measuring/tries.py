"""The search for the largest size that fits: the memory there is, every try, and why the search ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Capacity:
    """The memory that sizes are sought for, and what is in use of it besides a model's weights."""

    limit_bytes: int | None
    overhead_bytes: int
    of_process: bool  # whether the limit is one of the worker's resident memory, which its parent enforces


@dataclass(frozen=True)
class Attempting:
    """The model is loaded and a try begins: its time and its memory count from here."""


@dataclass(frozen=True)
class Attempted:
    """A try that came to its end, and the most memory that was in use, in bytes, whatever it was allowed."""

    peak_bytes: int | None


@dataclass(frozen=True)
class Tried:
    """One try of a search, as its parent saw it end; `outcome` is a word of `records.frontier`."""

    arm: int
    axis: str  # context or batch
    fixed: int  # the other one
    predicted: int | None
    size: int
    outcome: str
    peak_bytes: int | None
    seconds: float
    detail: str


@dataclass(frozen=True)
class SearchEnd:
    """Why the search of one arm along one axis ended; `closed`: at an edge or a limit, not for want of tries."""

    arm: int
    axis: str
    closed: bool
    detail: str
