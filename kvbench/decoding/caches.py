"""Cache objects of transformers, one kind a name, made for a run or kept from run to run."""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache, StaticCache

from kvbench.capabilities import CACHES
from kvbench.capabilities.caches import static_length
from kvbench.decoding.forward import Forward, OwnForward


class CacheMaker:
    """Makes the caches of one arm.

    A `kept` static cache is emptied and used again, by the next run that it is long enough for: an engine that repeats
    a step writes to the addresses that it saw first.
    """

    def __init__(self, forward: Forward, kind: str, cache_tokens: int | None = None, *, kept: bool = False) -> None:
        self._forward = forward
        self._kind = kind
        self._cache_tokens = cache_tokens
        self._is_kept = kept
        self._kept: dict[tuple[int, int], Any] = {}  # by rows and length

    def new(self, rows: int, tokens: int) -> Any:
        """An empty cache for so many sequences of so many tokens."""
        if isinstance(self._forward, OwnForward):
            return self._forward.new_cache(rows)
        if not CACHES[self._kind].static:
            # Without the config sliding-window layers would be stored at full length.
            return DynamicCache(config=self._forward.model.config)
        if not self._is_kept:
            return self._static(tokens)
        long_enough = [length for kept_rows, length in self._kept if kept_rows == rows and length >= tokens]
        if long_enough:
            cache = self._kept[rows, min(long_enough)]
            cache.reset()
            return cache
        cache = self._static(tokens)
        self._kept[rows, cache.get_max_length()] = cache
        return cache

    def release(self) -> None:
        """Forget the caches that were kept."""
        self._kept.clear()

    def _static(self, tokens: int) -> StaticCache:
        # It takes its type, device and number of sequences at its first update.
        length = self._cache_tokens or static_length(tokens)
        return StaticCache(config=self._forward.model.config, max_cache_len=length)


def told_length(cache: Any, expected: int) -> int:
    """Tokens that a cache says it holds, or `expected` where asking would be a look at the device."""
    length = cache.get_seq_length()
    return length if isinstance(length, int) else expected
