"""What the kernels need of a model, read off its modules; a model with anything else in it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from kvbench.errors import ModelUnavailable
from kvbench.models.yuan import YuanPairConv, rotary_frequencies

NO_NORM, PLAIN_NORM, UNIT_OFFSET_NORM = 0, 1, 2  # times nothing, times the weight, times 1 + the weight
NO_GATE, SILU_GATE, GELU_GATE = 0, 1, 2
GATES = {"silu": SILU_GATE, "gelu_pytorch_tanh": GELU_GATE}
FIXED_ROPES = ("default", "linear", "llama3", "yarn")
PROJECTIONS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NORM_NAMES = {"input_layernorm", "post_attention_layernorm"}
HEAD_NORM_NAMES = {"self_attn.q_norm", "self_attn.k_norm"}
FILTER_NAMES = {"self_attn.lf_gate.conv1", "self_attn.lf_gate.conv2", "self_attn.lf_gate.output_layernorm"}


@dataclass(frozen=True)
class Family:
    """What the layers of a `model_type` are beyond the shapes of their weights."""

    norm: int
    # Queries and keys come from a localized filter (arXiv:2311.15786) and lie in pairs, a head's key behind its query;
    # the activation is on the up projection.
    filtered: bool = False


FAMILIES = {
    "gemma": Family(UNIT_OFFSET_NORM),
    "llama": Family(PLAIN_NORM),
    "mistral": Family(PLAIN_NORM),
    "qwen3": Family(PLAIN_NORM),
    "yuan": Family(PLAIN_NORM, filtered=True),
}


@dataclass(frozen=True)
class FilterWeights:
    """A localized filter: two convolutions of width 2, and the norm behind them with an epsilon of its own.

    Their matrices are (out, 2 · in), the columns for the older of two neighbours before those for the newer.
    """

    first: torch.Tensor
    first_bias: torch.Tensor
    second: torch.Tensor
    second_bias: torch.Tensor
    norm: torch.Tensor
    eps: float


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer: matrices (out, in), norms (hidden,), norms of heads (head_dim,) or None.

    `gate` is the matrix whose product is activated, whatever the model calls it.
    """

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
    filter: FilterWeights | None  # of what queries and keys are made of


@dataclass(frozen=True)
class ModelWeights:
    """A whole model. `embed` takes (rows, 1) ids to embeddings, `rotate` a tensor of its type and positions to angles.

    Where its layers are `filtered` their queries and keys lie in pairs, a head's query before its key.
    """

    layers: tuple[LayerWeights, ...]
    final_norm: torch.Tensor
    head: torch.Tensor
    embed: nn.Module
    rotate: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    heads: int
    kv_heads: int
    head_dim: int
    scaling: float
    eps: float
    norm: int
    gate: int
    filtered: bool
    document_end: int | None  # the id that hides what is before it from what comes after it


def read_weights(model: Any) -> ModelWeights:
    """The weights of a model of a known family. Raises `ModelUnavailable`, naming the part that is not known."""
    config = model.config
    family = FAMILIES.get(config.model_type)
    gate = GATES.get(str(getattr(config, "hidden_act", None)))
    if family is None:
        raise _refusal(f"model_type {config.model_type} is none of {', '.join(sorted(FAMILIES))}")
    if gate is None:
        raise _refusal(f"no kernel has the activation {getattr(config, 'hidden_act', None)}")
    layers = tuple(_layer(layer, family) for layer in model.model.layers)
    attention = model.model.layers[0].self_attn
    head_dim = int(attention.head_dim)
    if head_dim & (head_dim - 1) or head_dim < 16:
        raise _refusal(f"heads of {head_dim} are not a power of two of at least 16")
    return ModelWeights(
        layers=layers,
        final_norm=model.model.norm.weight,
        head=_matrix("lm_head", model.lm_head),
        embed=model.model.embed_tokens,
        rotate=partial(_yuan_rotation, config) if family.filtered else _fixed_rotation(model.model.rotary_emb),
        heads=len(layers[0].q) // head_dim,
        kv_heads=len(layers[0].k) // head_dim,
        head_dim=head_dim,
        scaling=float(attention.scaling),
        eps=float(config.rms_norm_eps),
        norm=family.norm,
        gate=gate,
        filtered=family.filtered,
        document_end=int(config.eod_token) if family.filtered and config.separates_documents else None,
    )


def _fixed_rotation(module: nn.Module) -> nn.Module:
    rope = str(getattr(module, "rope_type", "default"))
    if rope not in FIXED_ROPES:
        raise _refusal(f"rotary frequencies of type {rope} depend on the length")
    return module


def _yuan_rotation(config: Any, like: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As the rotary modules of the other families: cosines and sines (rows, positions, head_dim) in `like`'s type."""
    wide = torch.promote_types(like.dtype, torch.float32)
    angles = position_ids[..., None] * rotary_frequencies(config, like.device, wide)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _layer(layer: Any, family: Family) -> LayerWeights:
    modules = {name: module for name, module in layer.named_modules() if _has_weights(module)}
    wanted = set(PROJECTIONS.values()) | NORM_NAMES | (FILTER_NAMES if family.filtered else set())
    allowed = wanted if family.filtered else wanted | HEAD_NORM_NAMES
    unknown = sorted(set(modules) - allowed)
    missing = sorted(wanted - set(modules))
    if unknown or missing:
        raise _refusal(f"a layer has {unknown[0]}" if unknown else f"a layer has no {missing[0]}")
    matrices = {part: _matrix(name, modules[name]) for part, name in PROJECTIONS.items()}
    if family.filtered:
        matrices["gate"], matrices["up"] = matrices["up"], matrices["gate"]
    head_norms = (modules.get(f"self_attn.{name}") for name in ("q_norm", "k_norm"))
    q_norm, k_norm = (None if module is None else module.weight for module in head_norms)
    return LayerWeights(
        **matrices,
        before_attention=modules["input_layernorm"].weight,
        before_mlp=modules["post_attention_layernorm"].weight,
        q_norm=q_norm,
        k_norm=k_norm,
        filter=_filter(layer.self_attn.lf_gate) if family.filtered else None,
    )


def _filter(module: Any) -> FilterWeights:
    return FilterWeights(
        first=_pair_matrix("conv1", module.conv1),
        first_bias=module.conv1.bias,
        second=_pair_matrix("conv2", module.conv2),
        second_bias=module.conv2.bias,
        norm=module.output_layernorm.weight,
        eps=float(module.output_layernorm.eps),
    )


def _pair_matrix(name: str, module: Any) -> torch.Tensor:
    if type(module) is not YuanPairConv or module.bias is None:
        raise _refusal(f"{name} is no convolution over pairs with a bias")
    weight = module.weight.permute(0, 2, 3, 1)
    if not weight.is_contiguous():
        raise _refusal(f"{name} does not lie channels last in memory (model.to(memory_format=torch.channels_last))")
    return weight.flatten(1)


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
