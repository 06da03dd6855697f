"""How large the weights will be, counted on torch's meta device: every shape, no memory."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM


@dataclass(frozen=True)
class WeightSize:
    """Tied weights are counted once."""

    parameters: int
    bytes: int


def weight_size(model: Any) -> WeightSize:
    """Count the parameters of a module, on whatever device they are, quantised ones with their scales.

    Call it before the first forward pass: bitsandbytes then moves its 8-bit scales out of the parameters.
    """
    parameters = list(model.parameters())
    return WeightSize(
        sum(_numbers(parameter) for parameter in parameters),
        sum(part.numel() * part.element_size() for parameter in parameters for part in _parts(parameter)),
    )


def _numbers(parameter: torch.Tensor) -> int:
    """Weights in a parameter; four-bit ones are packed two to a byte and keep their shape beside it."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else math.prod(packed.shape)


def _parts(tensor: Any) -> Iterator[torch.Tensor]:
    """The plain tensors behind a parameter: itself, or codes and scales."""
    if hasattr(tensor, "__tensor_flatten__"):  # torchao
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
        return
    yield tensor
    if getattr(tensor, "SCB", None) is not None:  # bitsandbytes, 8 bits: one scale a row
        yield tensor.SCB
    state = getattr(tensor, "quant_state", None)  # bitsandbytes, 4 bits: one scale a block, perhaps quantised again
    while state is not None:
        yield from (part for part in (state.absmax, state.code, state.offset) if isinstance(part, torch.Tensor))
        state = state.state2


def predicted_weight_size(
    config: Any, dtype: torch.dtype, *, bits: int | None = None, trust_remote_code: bool = False
) -> WeightSize:
    """The size that a causal language model of this transformers config will have in `dtype`.

    With `bits`, linear layers but the head are taken to hold that many a weight; their scales, a percent or two, are
    not counted.
    """
    with torch.device("meta"):
        # A copy: building writes the dtype into the config.
        model = AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=dtype, trust_remote_code=trust_remote_code
        )
    size = weight_size(model)
    if bits is None:
        return size
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    )
    return WeightSize(size.parameters, size.bytes - linear * dtype.itemsize + linear * bits // 8)
