"""Which cache object is which, and how many tokens each holds, without waiting for the device."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from kvbench.models.own import OwnPast


class CacheLengths:
    """Numbers the caches of a watch, and counts for each the tokens that passes have put into it.

    No cache is kept alive by being known, but for lists, tuples and dicts, which take no weak reference: of those the
    last two are held.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._held: list[tuple[Any, int]] = []
        self._counted: dict[int, int | None] = {}  # by the number of a cache
        self._next = 0

    def number(self, cache: Any) -> int:
        """The number of a cache object, the same for as long as it lives."""
        known = self._known.get(id(cache))
        if known is not None and known[0]() is cache:
            return known[1]
        for held, number in self._held:
            if held is cache:
                return number
        number, self._next = self._next, self._next + 1
        try:
            self._known[id(cache)] = (weakref.ref(cache), number)
        except TypeError:
            self._held = [*self._held[-1:], (cache, number)]
        return number

    def length(self, cache: Any, number: int) -> Any:
        """Tokens in a cache that is handed in: a number, a tensor that will be read later, or None.

        transformers' caches tell it, a static one with a tensor on the device, of which a copy is taken. Of any other
        object it is what the passes so far put in, or 0 where it holds no numbers yet.
        """
        told = getattr(cache, "get_seq_length", None)
        if callable(told):
            try:
                length = told()
            except (AttributeError, TypeError, ValueError, NotImplementedError):  # recurrent states count no tokens
                return self._count(cache, number)
            if isinstance(length, torch.Tensor):
                return int(length) if length.device.type == "cpu" else length.detach().clone()
            return int(length)
        return self._count(cache, number)

    def add(self, number: int, past: Any, submitted: int) -> None:
        """Note what a cache holds after a pass."""
        self._counted[number] = past + submitted if isinstance(past, int) else None

    def _count(self, cache: Any, number: int) -> int | None:
        if number in self._counted:
            return self._counted[number]
        own = OwnPast(cache)
        try:
            stated = own.stated_length()
        except Exception:  # whatever an object of somebody's own does when it is asked
            stated = None
        if stated is not None and not own.tells_by_len:
            return stated
        return None if any(tensor.numel() for layer in own.layers for tensor in vars(layer).values()) else 0
