"""How large the weights will be, counted on torch's meta device: every shape, no memory."""

from __future__ import annotations

import copy
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
    """Count the parameters of a module, on whatever device they are."""
    parameters = list(model.parameters())
    return WeightSize(
        sum(parameter.numel() for parameter in parameters),
        sum(parameter.numel() * parameter.element_size() for parameter in parameters),
    )


def predicted_weight_size(config: Any, dtype: torch.dtype, *, trust_remote_code: bool = False) -> WeightSize:
    """The size that a causal language model of this transformers config will have in `dtype`."""
    with torch.device("meta"):
        # A copy: building writes the dtype into the config.
        model = AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=dtype, trust_remote_code=trust_remote_code
        )
    return weight_size(model)
