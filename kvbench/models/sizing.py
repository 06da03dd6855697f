"""How large the weights will be, counted on torch's meta device: every shape, no memory."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
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


def weight_parts(model: Any) -> dict[str, dict[str, int]]:
    """Parameters and bytes of a module by what a forward pass does with them; tied weights are in one part.

    "linear": matrices that every token is multiplied with; "experts": those of which a token uses some; "head": the
    output projection, also where it is the embedding table; "embedding": tables of which a token reads a row; "other":
    norms and biases.
    """
    head = model.get_output_embeddings()
    heads = {id(parameter) for parameter in head.parameters()} if head is not None else set()
    parts = {name: WeightSize(0, 0) for name in ("linear", "experts", "head", "embedding", "other")}
    counted: set[int] = set()
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in counted:
                continue
            counted.add(id(parameter))
            name = "head" if id(parameter) in heads else _part_of(path, module, parameter)
            size = sum(part.numel() * part.element_size() for part in _parts(parameter))
            parts[name] = WeightSize(parts[name].parameters + _numbers(parameter), parts[name].bytes + size)
    return {name: asdict(size) for name, size in parts.items()}


def _part_of(path: str, module: torch.nn.Module, parameter: torch.Tensor) -> str:
    if isinstance(module, torch.nn.Embedding):
        return "embedding"
    if type(module).__name__.endswith("Experts") or re.search(r"\bexperts\.\d+\b", path):
        return "experts"
    return "linear" if parameter.ndim >= 2 else "other"


def predicted_weight_parts(config: Any, dtype: torch.dtype) -> dict[str, dict[str, int]]:
    """The parts that a causal language model of this transformers config will have in `dtype`; see `weight_parts`."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype)
    return weight_parts(model)


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
