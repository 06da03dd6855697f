"""The recipe of gpt-fast, rebuilt on a transformers model's weights: a peer of kvbench's prepared steps.

gpt-fast (PyTorch, 2023) decodes with plain modules of its own, one fused projection for queries, keys and values, a
static cache of (batch, kv_heads, length, head_dim) that is written at a position tensor, SDPA over the whole cache
under a mask, and one step, argmax included, compiled whole and replayed from a CUDA graph. Nothing of its code is here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

FAMILIES = ("gemma", "llama", "mistral", "qwen3")
OPTIONS = {"triton.cudagraphs": True, "coordinate_descent_tuning": True}


def refusal(model: Any, length: int) -> str | None:
    """Why the recipe is not rebuilt for a model and a cache of so many tokens, or None where it is."""
    config = model.config
    if config.model_type not in FAMILIES:
        return f"the recipe is written for {', '.join(FAMILIES)}, not for {config.model_type}"
    window = getattr(config, "sliding_window", None)
    if window is not None and window < length:
        return f"the recipe has no sliding window, this model has one of {window} tokens"
    if any(module.bias is not None for module in model.modules() if isinstance(module, nn.Linear)):
        return "the recipe has no biases, this model has some"
    return None


class Norm(nn.Module):
    """Root-mean-square norm in float32; Gemma's weights count from 1."""

    def __init__(self, source: Any, *, gemma: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(source.weight.detach(), requires_grad=False)
        self.eps = getattr(source, "variance_epsilon", None) or source.eps
        self.gemma = gemma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        if self.gemma:
            return (wide * (1.0 + self.weight.float())).to(x.dtype)
        return self.weight * wide.to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention over a static cache."""

    def __init__(self, source: Any, config: Any, batch: int, length: int) -> None:
        super().__init__()
        parts = [source.q_proj.weight, source.k_proj.weight, source.v_proj.weight]
        self.qkv = nn.Parameter(torch.cat([part.detach() for part in parts]), requires_grad=False)
        self.out = nn.Parameter(source.o_proj.weight.detach(), requires_grad=False)
        self.head_dim = source.head_dim
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.scaling = source.scaling
        has_norms = hasattr(source, "q_norm")
        self.q_norm: nn.Module = Norm(source.q_norm, gemma=False) if has_norms else nn.Identity()
        self.k_norm: nn.Module = Norm(source.k_norm, gemma=False) if has_norms else nn.Identity()
        empty = torch.zeros(batch, self.kv_heads, length, self.head_dim, dtype=self.qkv.dtype, device=self.qkv.device)
        self.register_buffer("keys", empty, persistent=False)
        self.register_buffer("values", empty.clone(), persistent=False)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor, position: torch.Tensor
    ) -> torch.Tensor:
        batch, tokens, _ = x.shape
        rows = functional.linear(x, self.qkv).view(batch, tokens, self.heads + 2 * self.kv_heads, self.head_dim)
        query, key, value = rows.split([self.heads, self.kv_heads, self.kv_heads], dim=2)
        query = rotated(self.q_norm(query).transpose(1, 2), cos, sin)
        self.keys[:, :, position] = rotated(self.k_norm(key).transpose(1, 2), cos, sin)
        self.values[:, :, position] = value.transpose(1, 2)
        keys, values = (each.repeat_interleave(self.heads // self.kv_heads, dim=1) for each in (self.keys, self.values))
        seen = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=self.scaling)
        return functional.linear(seen.transpose(1, 2).reshape(batch, tokens, -1), self.out)


class FeedForward(nn.Module):
    """The gated two-layer network."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.gate = nn.Parameter(source.gate_proj.weight.detach(), requires_grad=False)
        self.up = nn.Parameter(source.up_proj.weight.detach(), requires_grad=False)
        self.down = nn.Parameter(source.down_proj.weight.detach(), requires_grad=False)
        self.activation = source.act_fn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated = self.activation(functional.linear(x, self.gate)) * functional.linear(x, self.up)
        return functional.linear(gated, self.down)


class Layer(nn.Module):
    """Attention and network, each behind its norm, added to what came in."""

    def __init__(self, source: Any, config: Any, batch: int, length: int, *, gemma: bool) -> None:
        super().__init__()
        self.first_norm = Norm(source.input_layernorm, gemma=gemma)
        self.attention = Attention(source.self_attn, config, batch, length)
        self.second_norm = Norm(source.post_attention_layernorm, gemma=gemma)
        self.network = FeedForward(source.mlp)

    def forward(self, x: torch.Tensor, *where: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.first_norm(x), *where)
        return x + self.network(self.second_norm(x))


class Recipe(nn.Module):
    """A model's weights in plain modules, with a cache of `length` tokens for `batch` sequences of equal length.

    Its weights but for the fused projections are the model's own tensors. Without `compiled` a step runs as it is.
    """

    def __init__(self, model: Any, batch: int, length: int, *, compiled: bool = True) -> None:
        super().__init__()
        body, config = model.model, model.config
        gemma = config.model_type == "gemma"
        self.table = nn.Parameter(body.embed_tokens.weight.detach(), requires_grad=False)
        self.head = nn.Parameter(model.lm_head.weight.detach(), requires_grad=False)
        self.scale = torch.tensor(config.hidden_size**0.5 if gemma else 1.0).to(self.table.dtype).item()
        self.layers = nn.ModuleList(Layer(each, config, batch, length, gemma=gemma) for each in body.layers)
        self.norm = Norm(body.norm, gemma=gemma)
        places = torch.arange(length, device=self.table.device)
        cos, sin = body.rotary_emb(self.table[:1, None], places[None])  # (1, length, head_dim)
        self.register_buffer("cos", cos[0].clone(), persistent=False)
        self.register_buffer("sin", sin[0].clone(), persistent=False)
        self.register_buffer("causal", places[None, :] <= places[:, None], persistent=False)
        self.step = torch.compile(self.next_token, fullgraph=True, options=OPTIONS) if compiled else self.next_token

    def next_token(self, ids: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """The likeliest token (batch, 1) after `ids` (batch, tokens), which stand at `position` (tokens,)."""
        x = functional.embedding(ids, self.table) * self.scale
        where = (self.cos[position], self.sin[position], self.causal[position][None, None], position)
        for layer in self.layers:
            x = layer(x, *where)
        return functional.linear(self.norm(x[:, -1:]), self.head)[:, -1].argmax(-1, keepdim=True)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of `x` (batch, heads, tokens, head_dim), halves paired."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
