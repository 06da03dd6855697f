"""Cache objects of transformers, the bytes that they hold, and what quantising does to keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import transformers
from transformers import Cache, DynamicCache, StaticCache, cache_utils
from transformers.cache_utils import DynamicLayer, QuantizedCache

from kvbench.capabilities import CACHES, CacheKind, group_size, static_length
from kvbench.decoding.forward import Forward
from kvbench.errors import ModelUnavailable
from kvbench.model_facts import facts_from_config

# What a quantiser does to keys and values, apart from the cache that keeps its codes.


# Older versions quantise when one more token would make the newest too many, whatever number comes.
COUNTS_WHAT_COMES = hasattr(cache_utils, "BaseQuantizedLayer")
FP8_STEP = 2**-3  # float8_e4m3fn has three bits after the point: the distance of neighbours, relative


class RoundTripCache(Cache):
    """Keys and values in the model's own type, sent through the quantiser and back when a quantised cache would.

    Each layer asks the quantiser of `quantised`'s layer and keeps what comes back in one plain tensor: no codes, no
    separate tensor of the newest tokens, no joining at every step. So a cache that mislays, repeats, reorders or
    misplaces tokens differs from it, and one that does nothing but quantise does not.
    """

    def __init__(self, quantised: Cache) -> None:
        self.round_trips: list[Any] = [
            (_Fp8RoundTripLayer if hasattr(layer, "fp8_dtype") else _RoundTripLayer)(layer)
            for layer in quantised.layers
        ]
        super().__init__(layers=self.round_trips)

    def worst_steps(self) -> float:
        """The largest error of a round trip, in steps of a grid over the whole tensor's range; not a number if any is.

        A quantiser that rounds to the nearest code of a group's own range stays below half a step.
        """
        return float(torch.stack([layer.worst for layer in self.round_trips]).max())


class _RoundTripLayer(DynamicLayer):
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, quantiser: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._quantiser = quantiser
        self._settled = 0  # tokens that have been through the quantiser

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *rest: Any,  # noqa: ARG002 - the base class's shape
        **named: Any,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        submitted = key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._quantiser.lazy_initialization(key_states, value_states)
            self.worst = key_states.new_zeros((), dtype=torch.float32)
            keys, values, due = key_states, value_states, True
        else:
            keys = torch.cat([self.keys, key_states], dim=-2)
            values = torch.cat([self.values, value_states], dim=-2)
            newest = self.keys.shape[-2] - self._settled
            coming = submitted if COUNTS_WHAT_COMES else 1
            due = newest + coming >= self._quantiser.residual_length and (newest > 0 or COUNTS_WHAT_COMES)
        self.keys, self.values = keys, values
        if due:
            self.keys = self._there_and_back(keys, self._quantiser.axis_key)
            self.values = self._there_and_back(values, self._quantiser.axis_value)
            self._settled = keys.shape[-2]
        return keys, values  # this pass still sees what it was given

    def _there_and_back(self, tensor: torch.Tensor, axis: int) -> torch.Tensor:
        quantiser = self._quantiser
        back: torch.Tensor = quantiser._dequantize(quantiser._quantize(tensor.contiguous(), axis=axis))
        step = (tensor.max() - tensor.min()).float() / (2**quantiser.nbits - 1)
        error = (back.float() - tensor.float()).abs().max()
        self.worst = torch.maximum(self.worst, (error / step.clamp(min=torch.finfo(torch.float32).tiny)))
        return back


class _Fp8RoundTripLayer(DynamicLayer):
    """Our own rounding to float8, with the scale of the first pass.

    Every later pass sees all that is held, its own tokens too, as it came back.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, quantiser: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._type: torch.dtype = quantiser.fp8_dtype
        self._largest = float(quantiser.fp8_max)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *rest: Any,  # noqa: ARG002 - the base class's shape
        **named: Any,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._scales = [self._scale(each) for each in (key_states, value_states)]
            self.worst = key_states.new_zeros((), dtype=torch.float32)
            self.keys, self.values = self._both(key_states, value_states)
            return key_states, value_states
        keys, values = self._both(key_states, value_states)
        self.keys, self.values = torch.cat([self.keys, keys], dim=-2), torch.cat([self.values, values], dim=-2)
        return self.keys, self.values

    def _scale(self, tensor: torch.Tensor) -> torch.Tensor:
        return (tensor.abs().amax().float() / self._largest).clamp(min=torch.finfo(torch.float32).tiny)

    def _both(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        return [self._there_and_back(*pair) for pair in zip(tensors, self._scales, strict=True)]

    def _there_and_back(self, tensor: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        codes: torch.Tensor = (tensor.float() / scale).to(self._type)
        back: torch.Tensor = (codes.float() * scale).to(tensor.dtype)
        reach = float(scale) * self._largest  # beyond it a token is cut off: the scale is the prompt's
        held = tensor.float().clamp(-reach, reach)
        self.worst = torch.maximum(self.worst, (back.float() - held).abs().max() / max(reach * FP8_STEP, 1e-30))
        return back


# Bytes of a transformers cache, walked from the tensors that its layers hold.


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


# Cache objects of transformers, made for a run or kept from run to run.


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
        own = self._forward.new_past(rows)
        if own is not None:
            return own
        kind, config = CACHES[self._kind], self._forward.model.config
        if kind.lossy:
            quantised = QuantizedCache(config=config, **quantiser_arguments(kind, config))
            return RoundTripCache(quantised) if self._round_trip else quantised
        if not kind.static:
            # It is the config that makes layers with a window forget what is behind it.
            return DynamicCache(config=config if kind.windows else None, offloading=kind.offloaded)
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


def length_without_sync(cache: Any, expected: int) -> int:
    """Tokens that a cache says it holds, or `expected` where asking would be a look at the device."""
    length = cache.get_seq_length()
    return length if isinstance(length, int) else expected
