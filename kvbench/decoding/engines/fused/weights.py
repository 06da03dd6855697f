"""What the kernels need of a model, read off its modules; a model with anything else in it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kvbench.errors import ModelUnavailable

NO_NORM, PLAIN_NORM, UNIT_OFFSET_NORM = 0, 1, 2  # times nothing, times the weight, times 1 + the weight
NO_GATE, SILU_GATE, GELU_GATE = 0, 1, 2
NORMS = {"gemma": UNIT_OFFSET_NORM, "llama": PLAIN_NORM, "mistral": PLAIN_NORM, "qwen3": PLAIN_NORM}  # by model_type
GATES = {"silu": SILU_GATE, "gelu_pytorch_tanh": GELU_GATE}
FIXED_ROPES = ("default", "linear", "llama3", "yarn")
PROJECTIONS = {
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
}
NORM_NAMES = {"input_layernorm", "post_attention_layernorm"}
HEAD_NORM_NAMES = {"self_attn.q_norm", "self_attn.k_norm"}


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer: matrices (out, in), norms (hidden,), norms of heads (head_dim,) or None."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    o: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor
    before_attention: torch.Tensor
    before_mlp: torch.Tensor
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None


@dataclass(frozen=True)
class ModelWeights:
    """A whole model. `embed` and `rotate` are its own modules: (rows, 1) ids to embeddings, positions to angles."""

    layers: tuple[LayerWeights, ...]
    final_norm: torch.Tensor
    head: torch.Tensor
    embed: nn.Module
    rotate: nn.Module
    heads: int
    kv_heads: int
    head_dim: int
    scaling: float
    eps: float
    norm: int
    gate: int


def read_weights(model: Any) -> ModelWeights:
    """The weights of a model of a known family. Raises `ModelUnavailable`, naming the part that is not known."""
    config = model.config
    norm = NORMS.get(config.model_type)
    gate = GATES.get(str(getattr(config, "hidden_act", None)))
    if norm is None:
        raise _refusal(f"model_type {config.model_type} is none of {', '.join(sorted(NORMS))}")
    if gate is None:
        raise _refusal(f"no kernel has the activation {getattr(config, 'hidden_act', None)}")
    rope = str(getattr(model.model.rotary_emb, "rope_type", "default"))
    if rope not in FIXED_ROPES:
        raise _refusal(f"rotary frequencies of type {rope} depend on the length")
    layers = tuple(_layer(layer) for layer in model.model.layers)
    attention = model.model.layers[0].self_attn
    head_dim = int(attention.head_dim)
    if head_dim & (head_dim - 1) or head_dim < 16:
        raise _refusal(f"heads of {head_dim} are not a power of two of at least 16")
    return ModelWeights(
        layers=layers,
        final_norm=model.model.norm.weight,
        head=_matrix("lm_head", model.lm_head),
        embed=model.model.embed_tokens,
        rotate=model.model.rotary_emb,
        heads=len(layers[0].q) // head_dim,
        kv_heads=len(layers[0].k) // head_dim,
        head_dim=head_dim,
        scaling=float(attention.scaling),
        eps=float(config.rms_norm_eps),
        norm=norm,
        gate=gate,
    )


def _layer(layer: Any) -> LayerWeights:
    modules = {name: module for name, module in layer.named_modules() if _has_weights(module)}
    unknown = sorted(set(modules) - PROJECTIONS - NORM_NAMES - HEAD_NORM_NAMES)
    missing = sorted((PROJECTIONS | NORM_NAMES) - set(modules))
    if unknown or missing:
        raise _refusal(f"a layer has {unknown[0]}" if unknown else f"a layer has no {missing[0]}")
    matrices = {name.rpartition("_")[0].rpartition(".")[2]: _matrix(name, modules[name]) for name in PROJECTIONS}
    head_norms = (modules.get(f"self_attn.{name}") for name in ("q_norm", "k_norm"))
    q_norm, k_norm = (None if module is None else module.weight for module in head_norms)
    return LayerWeights(
        **matrices,
        before_attention=modules["input_layernorm"].weight,
        before_mlp=modules["post_attention_layernorm"].weight,
        q_norm=q_norm,
        k_norm=k_norm,
    )


def _has_weights(module: nn.Module) -> bool:
    return next(iter(_own_tensors(module)), None) is not None


def _own_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def _matrix(name: str, module: Any) -> torch.Tensor:
    if type(module) is not nn.Linear or module.bias is not None or not module.weight.is_contiguous():
        raise _refusal(f"{name} is no plain matrix (it is quantised, or has a bias)")
    return module.weight


def _refusal(why: str) -> ModelUnavailable:
    return ModelUnavailable(f"engine=fused: {why}; use engine=compiled")
