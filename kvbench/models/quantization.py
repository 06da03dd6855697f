"""Weights in fewer bits: which routes there are, what they need, and how transformers is told."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from kvbench.capabilities import QUANTIZATIONS, quantization_conflict
from kvbench.errors import ModelUnavailable


def require_quantization(name: str, device: torch.device) -> None:
    """Raise `ModelUnavailable` when a route's package is not installed, or has no kernels for this type of device."""
    route = QUANTIZATIONS[name]
    if route.package is not None and importlib.util.find_spec(route.package) is None:
        raise ModelUnavailable(
            f"model.quantization={name} needs the package {route.package}, which is not installed:"
            f" pip install 'kvbench[{route.package}]'"
        )
    if conflict := quantization_conflict(name, device.type):
        raise ModelUnavailable(conflict)


def quantization_config(name: str, dtype: torch.dtype) -> Any | None:
    """What `from_pretrained` takes as `quantization_config`; None for weights as they are."""
    return None if name == "none" else BUILDERS[name](dtype)


def _int8(dtype: torch.dtype) -> Any:  # noqa: ARG001 - one shape for all
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def _nf4(dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _int8_weight_only(dtype: torch.dtype) -> Any:  # noqa: ARG001
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


BUILDERS: dict[str, Callable[[torch.dtype], Any]] = {
    "int8": _int8,
    "nf4": _nf4,
    "int8_weight_only": _int8_weight_only,
}
