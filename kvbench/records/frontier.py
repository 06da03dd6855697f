"""The part of a record that tells the largest context and batch that fit."""

from __future__ import annotations

from typing import Literal

from kvbench.records.part import Part

Axis = Literal["context", "batch"]


class FrontierTry(Part):
    """One attempt in a worker of its own: `size` tokens of context, or sequences, and how it ended."""

    size: int
    outcome: Literal["fits", "oom", "infeasible", "crashed", "timeout", "failed"]
    peak_bytes: int | None
    seconds: float


class FrontierEdge(Part):
    """The largest size of one arm along one axis, the other one held at `fixed`.

    `found` fits and the next size tried above it does not (`found_above`); null where nothing fits, or where the
    search met another limit, which `detail` names. `error` is (predicted - found) / found.
    """

    arm: int
    axis: Axis
    fixed: int
    predicted: int | None
    found: int | None
    found_above: int | None
    error: float | None
    tries: tuple[FrontierTry, ...]
    detail: str


class Frontier(Part):
    """Every edge that one run has looked for, within `limit_bytes` of memory."""

    limit_bytes: int | None
    edges: tuple[FrontierEdge, ...]
