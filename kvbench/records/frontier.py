"""The part of a record that tells the largest context and batch that fit."""

from __future__ import annotations

from typing import Literal

from kvbench.records.meaning import figure
from kvbench.records.part import Part

Axis = Literal["context", "batch"]


class FrontierTry(Part):
    """One attempt in a worker of its own: `size` tokens of context, or sequences, and how it ended."""

    size: int = figure("size", "of its axis", "none", "Tokens of context, or sequences.")
    outcome: Literal["fits", "oom", "infeasible", "crashed", "timeout", "failed"]
    peak_bytes: int | None = figure("peak", "bytes", "lower", "Highest memory of the attempt.")
    seconds: float = figure("duration", "s", "lower", "How long the attempt took.")


class FrontierEdge(Part):
    """The largest size of one arm along one axis, the other one held at `fixed`.

    `found` fits and the next size tried above it does not (`found_above`); null where nothing fits, or where the
    search met another limit, which `detail` names. `error` is (predicted - found) / found.
    """

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    axis: Axis
    fixed: int = figure("other size", "of its axis", "none", "What the other axis is held at.")
    predicted: int | None = figure("predicted", "of its axis", "higher", "The largest size that should fit.")
    found: int | None = figure("found", "of its axis", "higher", "The largest size that fits.")
    found_above: int | None = figure(
        "found too large", "of its axis", "none", "The next size tried above it, which does not fit."
    )
    error: float | None = figure("error of the prediction", "ratio", "none", "(predicted - found) ÷ found; 0 is none.")
    tries: tuple[FrontierTry, ...]
    detail: str


class Frontier(Part):
    """Every edge that one run has looked for, within `limit_bytes` of memory."""

    limit_bytes: int | None = figure("limit", "bytes", "none", "Memory within which the sizes were looked for.")
    edges: tuple[FrontierEdge, ...]
