"""The fused engine reads a model's weights by their names, and refuses a model with anything else in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvbench.decoding.engines.fused.weights import (
    GELU_GATE,
    PLAIN_NORM,
    SILU_GATE,
    UNIT_OFFSET_NORM,
    read_weights,
)
from kvbench.errors import ModelUnavailable

KNOWN = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}


@pytest.mark.parametrize(
    ("architecture", "changes", "norm", "gate", "head_norms"),
    [
        ("llama", {}, PLAIN_NORM, SILU_GATE, False),
        ("mistral", {"sliding_window": None}, PLAIN_NORM, SILU_GATE, False),
        ("gemma", {"hidden_act": "gelu_pytorch_tanh"}, UNIT_OFFSET_NORM, GELU_GATE, False),
        ("qwen3", {}, PLAIN_NORM, SILU_GATE, True),
    ],
)
def test_the_known_families_are_read(
    tiny_model: Callable[..., Any], architecture: str, changes: dict[str, Any], norm: int, gate: int, head_norms: bool
) -> None:
    model = tiny_model(architecture, **{**KNOWN, **changes})
    weights = read_weights(model)
    assert (norm, gate) == (weights.norm, weights.gate)
    assert (2, 1, 16) == (weights.heads, weights.kv_heads, weights.head_dim)
    assert head_norms == (weights.layers[0].q_norm is not None)
    assert model.model.layers[2].mlp.down_proj.weight is weights.layers[2].down
    assert model.model.layers[1].self_attn.k_proj.weight is weights.layers[1].k


@pytest.mark.parametrize(
    ("architecture", "changes", "why"),
    [
        ("gpt2", {}, "model_type gpt2 is none of gemma, llama, mistral, qwen3"),
        ("gemma2", {}, "model_type gemma2 is none of"),
        ("llama", {"head_dim": 8}, "heads of 8 are not a power of two of at least 16"),
        ("llama", {"attention_bias": True, **KNOWN}, "is no plain matrix (it is quantised, or has a bias)"),
        ("llama", {"hidden_act": "relu", **KNOWN}, "no kernel has the activation relu"),
    ],
)
def test_another_model_is_refused_in_one_line(
    tiny_model: Callable[..., Any], architecture: str, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ModelUnavailable, match=r"^engine=fused: .*; use engine=compiled$") as caught:
        read_weights(tiny_model(architecture, **changes))
    assert why in str(caught.value)


def test_a_part_that_the_kernels_do_not_know_is_named(tiny_model: Callable[..., Any]) -> None:
    from torch import nn

    model = tiny_model("llama", **KNOWN)
    model.model.layers[1].mlp.extra = nn.Linear(2, 2)
    with pytest.raises(ModelUnavailable, match=r"a layer has mlp\.extra"):
        read_weights(model)
