"""What a quantiser does to keys and values, apart from the cache that keeps its codes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, cache_utils
from transformers.cache_utils import DynamicLayer

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
