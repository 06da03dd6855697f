"""How large the weights will be, counted on torch's meta device, and how they are held in fewer bits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from kvbench.capabilities import QUANTIZATIONS, quantization_conflict
from kvbench.errors import ModelUnavailable, reason_of
from kvbench.models.tensor_parallel import local_part

# Weights in fewer bits: which routes there are, what they need, and how transformers is told.


# torchao would have torch.compile tune itself for the whole process, and compiled arms would no longer compare.
OWN_ENGINES = {"set_inductor_config": False}


def require_quantization(name: str, device: torch.device) -> None:
    """Raise `ModelUnavailable` when a route has no kernels for this type of device."""
    if conflict := quantization_conflict(name, device.type):
        raise ModelUnavailable(conflict)


def quantization_config(name: str, dtype: torch.dtype) -> Any | None:
    """What `from_pretrained` takes as `quantization_config`; None for weights as they are."""
    return None if name == "none" else BUILDERS[name](dtype)


def require_computing(name: str, model: Any) -> None:
    """Run two short passes on the CPU; raise `ModelUnavailable` where the package refuses these weights there.

    Which layers its kernels take depends on the processor and on their shapes, and shows in a pass alone.
    """
    if name == "none" or model.device.type != "cpu":
        return
    try:
        with torch.no_grad():
            for tokens in (2, 1):  # a matrix and a single row have kernels of their own
                model(input_ids=torch.zeros((1, tokens), dtype=torch.long))
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        if "memory" in str(error):
            raise
        package = QUANTIZATIONS[name].package
        raise ModelUnavailable(
            f"model.quantization={name}: {package} cannot compute with this model on this CPU ({reason_of(error)}): use"
            " a GPU, another model.quantization, or model.quantization=none"
        ) from error


def _int8(dtype: torch.dtype) -> Any:  # noqa: ARG001 - one shape for all
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def _nf4(dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _int8_weight_only(dtype: torch.dtype) -> Any:  # noqa: ARG001
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig(**OWN_ENGINES))


def _int4_weight_only(dtype: torch.dtype) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig
    from transformers import TorchAoConfig

    if dtype != torch.bfloat16:
        raise ModelUnavailable("model.quantization=int4_weight_only: knows bfloat16 alone: set model.dtype=bfloat16")
    # The one layout whose kernels come with torch; the others want further packages.
    return TorchAoConfig(Int4WeightOnlyConfig(group_size=128, int4_packing_format="tile_packed_to_4d", **OWN_ENGINES))


BUILDERS: dict[str, Callable[[torch.dtype], Any]] = {
    "int8": _int8,
    "nf4": _nf4,
    "int8_weight_only": _int8_weight_only,
    "int4_weight_only": _int4_weight_only,
}


# How large the weights will be: on torch's meta device every shape is there, and no memory is taken.


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
        sum(numbers_in(parameter) for parameter in parameters),
        sum(part.numel() * part.element_size() for parameter in parameters for part in plain_tensors(parameter)),
    )


def numbers_in(parameter: torch.Tensor) -> int:
    """Weights in a parameter; four-bit ones are packed two to a byte and keep their shape beside it."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else math.prod(packed.shape)


def plain_tensors(tensor: Any) -> Iterator[torch.Tensor]:
    """The plain tensors behind a parameter: itself, codes and scales, or this rank's part of a shared one."""
    tensor = local_part(tensor)
    if hasattr(tensor, "__tensor_flatten__"):  # torchao
        for name in tensor.__tensor_flatten__()[0]:
            yield from plain_tensors(getattr(tensor, name))
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
