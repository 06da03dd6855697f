"""Attention for one query at a time, through transformers' own registry of attention functions.

Query heads that share a key-value head are rows of one matrix, so a step reads every key and value once, whatever the
number of heads that look at it (grouped-query attention, arXiv:2305.13245).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "grouped"


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """`query` (batch, heads, seq, head_dim), `key` and `value` (batch, kv_heads, context, head_dim).

    Returns (batch, seq, heads, head_dim). Passes of several tokens go to SDPA.
    """
    if query.shape[2] > 1:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, softcap=softcap, **kwargs
        )
        return output
    batch, heads, _, head_dim = query.shape
    kv_heads = key.shape[1]
    rows = query.reshape(batch, kv_heads, heads // kv_heads, head_dim)
    scores = torch.matmul(rows, key.transpose(2, 3)) * (head_dim**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:  # (batch, 1, 1, context), True where a token may be seen
        scores = scores.masked_fill(~attention_mask, -torch.inf)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    return torch.matmul(weights, value).reshape(batch, 1, heads, value.shape[-1]), None


def register() -> None:
    """Make `GROUPED` a name that `set_attn_implementation` knows."""
    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, sdpa_mask)
