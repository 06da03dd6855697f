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
    backend: str | None = None  # what transformers calls the quantiser
    package: str | None = None  # the module behind it; the extra to install is named like the backend

    @property
    def lossy(self) -> bool:
        """Whether it gives back other numbers than it was given."""
        return self.bits is not None


def _quantised(name: str, backend: str, bits: int, package: str | None, summary: str) -> CacheKind:
    return CacheKind(name, summary, bits=bits, backend=backend, package=package)


NO_CACHE = "none"
OWN_CACHE = "own"  # what a model of one's own keeps (model=python), whatever cache is asked for
CACHES = {
    kind.name: kind
    for kind in (
        CacheKind("dynamic", "grows by concatenation at every step; layers with a window keep the window"),
        CacheKind("static", "allocated once at its full length and written in place", static=True),
        CacheKind(
            "offloaded", "dynamic, its layers on the host but for the one in use and the next; a GPU", offloaded=True
        ),
        CacheKind(
            "offloaded_static",
            "static, its layers without a window on the host but for the one in use and the next; a GPU",
            static=True,
            offloaded=True,
        ),
        *(
            _quantised(f"quanto_int{bits}", "quanto", bits, "optimum.quanto", f"optimum-quanto, {bits} bits")
            for bits in (4, 2)
        ),
        *(_quantised(f"hqq_int{bits}", "hqq", bits, "hqq", f"hqq, {bits} bits") for bits in (8, 4, 3, 2, 1)),
        _quantised("fp8", "fp8", 8, None, "transformers' own, float8_e4m3fn with one scale a layer"),
        CacheKind(NO_CACHE, "keeps nothing"),
    )
}
STATIC_STEP = 64  # tokens; lengths that differ little then share one compiled or captured step

# transformers' defaults for its quantised caches (but fp8): so many elements share a scale and a zero, and the newest
# tokens are kept as they are until there are so many of them. A prompt is quantised at once.
USUAL_GROUP = 64
LEAST_GROUP = 8
RESIDUAL_TOKENS = 128


def static_length(needed_tokens: int) -> int:
    """The length of a static cache that nobody gave one: what is needed, up to a multiple of `STATIC_STEP`."""
    return -(-needed_tokens // STATIC_STEP) * STATIC_STEP


def group_size(keys_per_token: int) -> int | None:
    """Elements that share a scale where a layer keeps so many keys a token; None where no group fits any length."""
    group = USUAL_GROUP
    while group >= LEAST_GROUP and keys_per_token % group:
        group //= 2
    return group if group >= LEAST_GROUP else None
