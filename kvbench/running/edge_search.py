"""The search for the largest size that fits: a pure object, told how each try ended.

It takes for granted that whatever fits at a size fits at every smaller one. It starts just below the prediction and
looks just above it next, so that a good prediction costs two tries; from a bad one it walks in growing steps until it
has an edge between two sizes, and halves what is left.
"""

from __future__ import annotations

import math

LEAST_STRIDE = 0.05  # relative; of a search to the unit too, whose first strides would be single tokens
MOST_STRIDE = 3.0  # four times the size: failing far beyond the edge is slow where nothing refuses memory
MOST_TRIES = 48  # enough for any edge up to a million from any start (tests/unit/running/test_edge_search.py)


class EdgeSearch:
    """Sizes from `least` to `most` (None: no end), from `start` on, until the edge is within `resolution`, relative.

    `found` is the largest size that fitted, `above` the smallest that did not; None before there is one.
    """

    def __init__(self, start: int, least: int, most: int | None, resolution: float) -> None:
        self.least = least
        self.most = most
        self.tries = 0
        self.found: int | None = None
        self.above: int | None = None
        self._start = max(least, start if most is None else min(start, most))
        self._resolution = resolution
        self._stride = max(resolution, LEAST_STRIDE)

    def next_size(self) -> int | None:
        """What to try next; None when the search has ended."""
        found, above = self.found, self.above
        if self.closed or self.tries >= MOST_TRIES:
            return None
        if found is not None and above is not None:
            return max(found + 1, math.isqrt(found * above)) if above > 2 * found else (found + above) // 2
        if above is not None:
            return max(self.least, min(above - 1, math.ceil(above / (1 + self._stride))))
        if found is not None:
            larger = max(found + 1, int(found * (1 + self._stride)))
            return larger if self.most is None else min(larger, self.most)
        return self._start

    @property
    def closed(self) -> bool:
        """Whether there is an edge, or a limit where one was expected."""
        if self.found is None:
            return self.above == self.least
        if self.above is None:
            return self.found == self.most
        return self.above - self.found <= max(1, self._resolution * self.found)

    def tell(self, size: int, *, fits: bool) -> None:
        """How the try of a size ended."""
        if self.tries:
            self._stride = min(2 * self._stride, MOST_STRIDE)
        self.tries += 1
        if fits:
            self.found = size if self.found is None else max(self.found, size)
        else:
            self.above = size if self.above is None else min(self.above, size)
