"""The kinds of cache: how each holds keys and values, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CacheKind:
    """A way of holding keys and values. `static` is allocated whole at the start and has one length."""

    name: str
    summary: str
    static: bool = False
    offloaded: bool = False  # its layers wait on the host and come to the device one after another
    bits: int | None = None  # of a quantised element; None: the model's own type
    package: str | None = None  # the package behind it, which is also the extra to install


NO_CACHE = "none"
OWN_CACHE = "own"  # what a model of one's own keeps (model=python), whatever cache is asked for
CACHES = {
    kind.name: kind
    for kind in (
        CacheKind("dynamic", "grows by concatenation at every step; layers with a window keep the window"),
        CacheKind("static", "allocated once at its full length and written in place", static=True),
        CacheKind(NO_CACHE, "keeps nothing"),
    )
}
STATIC_STEP = 64  # tokens; lengths that differ little then share one compiled or captured step


def static_length(needed_tokens: int) -> int:
    """The length of a static cache that nobody gave one: what is needed, up to a multiple of `STATIC_STEP`."""
    return -(-needed_tokens // STATIC_STEP) * STATIC_STEP
