"""Long series, cut down to what a chart has pixels for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

Point = TypeVar("Point")
MAX_POINTS = 400


def thinned(points: Sequence[Point], kept: Iterable[int] = ()) -> list[Point]:
    """At most `MAX_POINTS` of a series and its last one, evenly spaced, and those whose indices are to be `kept`."""
    stride = -(-len(points) // MAX_POINTS) or 1
    if stride == 1:
        return list(points)
    return [points[index] for index in sorted({*range(0, len(points), stride), len(points) - 1, *kept})]
