"""Weights in fewer bits: which routes there are, what they need, and how transformers is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kvbench.capabilities import QUANTIZATIONS, quantization_conflict
from kvbench.errors import ModelUnavailable, reason_of

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
