"""Cache objects of transformers, one kind a name, made for a run or kept from run to run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import transformers
from transformers import Cache, DynamicCache, StaticCache, cache_utils
from transformers.cache_utils import QuantizedCache

from kvbench.capabilities import CACHES, CacheKind, group_size, static_length
from kvbench.decoding.forward import Forward, OwnForward
from kvbench.decoding.round_trips import RoundTripCache
from kvbench.errors import ModelUnavailable
from kvbench.model_facts import facts_from_config


class CacheMaker:
    """Makes the caches of one arm.

    A `kept` static cache is emptied and used again, by the next run that wants one of its size: an engine that repeats
    a step writes to the addresses that it saw first. With `round_trip` a quantised kind is made as a
    `RoundTripCache`, against which it is held.
    """

    def __init__(
        self,
        forward: Forward,
        kind: str,
        cache_tokens: int | None = None,
        *,
        kept: bool = False,
        round_trip: bool = False,
    ) -> None:
        self._forward = forward
        self._kind = kind
        self._cache_tokens = cache_tokens
        self._is_kept = kept
        self._round_trip = round_trip
        self._kept: dict[tuple[int, int], Any] = {}  # by rows and length

    def new(self, rows: int, tokens: int) -> Any:
        """An empty cache for so many sequences of so many tokens."""
        if isinstance(self._forward, OwnForward):
            return self._forward.new_cache(rows)
        kind, config = CACHES[self._kind], self._forward.model.config
        if kind.lossy:
            quantised = QuantizedCache(config=config, **quantiser_arguments(kind, config))
            return RoundTripCache(quantised) if self._round_trip else quantised
        if not kind.static:
            # Without the config sliding-window layers would be stored at full length.
            return DynamicCache(config=config, offloading=kind.offloaded)
        if not self._is_kept:
            return self._static(tokens)
        # Never a longer one that happens to be there: what a step reads must not depend on the runs before it.
        place = (rows, self._length(tokens))
        if place in self._kept:
            self._kept[place].reset()
        else:
            self._kept[place] = self._static(tokens)
        return self._kept[place]

    def release(self) -> None:
        """Forget the caches that were kept."""
        self._kept.clear()

    def _length(self, tokens: int) -> int:
        return self._cache_tokens or static_length(tokens)

    def _static(self, tokens: int) -> Cache:
        # It takes its type, device and number of sequences at its first update.
        config, length = self._forward.model.config, self._length(tokens)
        if self._is_kept:
            return repeatable_cache(config, length)
        return StaticCache(config=config, max_cache_len=length, offloading=CACHES[self._kind].offloaded)


def repeatable_cache(config: Any, length: int) -> StaticCache:
    """A static cache for engines that repeat a step, which cannot see lengths that are kept in Python.

    Layers with a window keep theirs there. No window of at least the cache's length ever hides a token, so that a layer
    without one does the same. Raises `ModelUnavailable` for a shorter window.
    """
    cache = StaticCache(config=config, max_cache_len=length)
    for index, layer in enumerate(cache.layers):
        if not getattr(layer, "is_sliding", False):
            continue
        window = getattr(layer, "max_cache_len", 0)
        if type(layer) is not cache_utils.StaticSlidingWindowLayer or window < length:
            raise ModelUnavailable(
                f"layers with a window of {window} tokens, shorter than the cache's {length}, keep their"
                " length in Python, which a repeated step cannot see: use engine=eager"
            )
        cache.layers[index] = cache_utils.StaticLayer(max_cache_len=length)
    return cache


def quantiser_arguments(kind: CacheKind, config: Any) -> dict[str, Any]:
    """What `QuantizedCache` and `generate`'s `cache_config` take: transformers' defaults, in groups that fit."""
    if kind.backend == "fp8":
        return {"backend": "fp8"}
    facts = facts_from_config(config, name="", source="path")
    return {
        "backend": kind.backend,
        "nbits": kind.bits,
        "q_group_size": group_size((facts.kv_heads or 0) * (facts.head_dim or 0)),
    }


def require_cache_classes(kinds: Iterable[str]) -> None:
    """Raise `ModelUnavailable` when the installed transformers has no such kind of cache."""
    if "fp8" in kinds and not hasattr(cache_utils, "Fp8QuantizedLayer"):
        raise ModelUnavailable(
            f"cache=fp8: transformers {transformers.__version__} has no such cache: pip install -U transformers"
        )


def told_length(cache: Any, expected: int) -> int:
    """Tokens that a cache says it holds, or `expected` where asking would be a look at the device."""
    length = cache.get_seq_length()
    return length if isinstance(length, int) else expected
