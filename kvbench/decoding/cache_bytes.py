"""Bytes of a transformers cache, walked from the tensors that its layers hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def logical_bytes(cache: Any) -> int:
    """Bytes of the elements of every tensor in the cache's layers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(cache))


def host_bytes(cache: Any, device: torch.device) -> int:
    """Of the logical bytes those that wait on the host, where the model is on another device."""
    return sum(
        tensor.numel() * tensor.element_size() for tensor in _tensors(cache) if tensor.device.type != device.type
    )


def storage_bytes(cache: Any, device: torch.device | None = None) -> int:
    """Bytes of the unique storages behind those tensors: a view keeps the whole of what it was cut from alive.

    With a device only of those on it.
    """
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in _tensors(cache)
        if tensor.numel() and (device is None or tensor.device.type == device.type)
    }
    return sum(storages.values())


def _tensors(cache: Any) -> Iterator[torch.Tensor]:
    for layer in cache.layers:
        yield from _inside(vars(layer))


def _inside(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if hasattr(value, "__tensor_flatten__"):  # quantised tensors keep codes and scales in inner tensors
            names, _ = value.__tensor_flatten__()
            for name in names:
                yield from _inside(getattr(value, name))
        else:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _inside(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _inside(item)
