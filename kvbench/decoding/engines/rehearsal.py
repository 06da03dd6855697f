"""Passes made for practice beside a real cache, which must not show them afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

WRITTEN_IN_PLACE = ("keys", "values")  # beyond the last token, where the real pass writes before it reads


class CacheState:
    """What a static cache keeps besides keys and values: its lengths, and the states of other kinds of layers."""

    def __init__(self, cache: Any | None) -> None:
        self._tensors = [(tensor, tensor.clone()) for tensor in _states(cache)]
        self._plain = [
            (layer, name, value) for layer in _layers(cache) for name, value in vars(layer).items() if _is_plain(value)
        ]

    def restore(self) -> None:
        """Put everything back, in place: a captured pass reads it from where it was."""
        for tensor, before in self._tensors:
            tensor.copy_(before)
        for layer, name, value in self._plain:
            setattr(layer, name, dict(value) if isinstance(value, dict) else value)


def _layers(cache: Any | None) -> list[Any]:
    return [] if cache is None else list(cache.layers)


def _states(cache: Any | None) -> Iterator[torch.Tensor]:
    for layer in _layers(cache):
        for name, value in vars(layer).items():
            if name not in WRITTEN_IN_PLACE:
                values = value.values() if isinstance(value, dict) else (value,)
                yield from (each for each in values if isinstance(each, torch.Tensor))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(isinstance(each, (bool, int)) for each in value.values())
    return isinstance(value, (bool, int))
