"""Long series, cut down to what a chart has pixels for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Point = TypeVar("Point")
MAX_POINTS = 400


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MAX_POINTS` of a series and its last one, evenly spaced."""
    stride = -(-len(points) // MAX_POINTS) or 1
    return [*points[:-1:stride], *points[-1:]]
