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
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """`query` (batch, heads, seq, head_dim), `key` and `value` (batch, kv_heads, context, head_dim).

    Returns (batch, seq, heads, head_dim). Passes of several tokens go to SDPA, unless the architecture caps its scores
    or has sinks `s_aux` (heads,), of which SDPA knows nothing. A window is in the mask. Raises `ValueError` for a bias
    by position.
    """
    if kwargs.get("position_bias") is not None:
        raise ValueError("attention=grouped knows no bias by position: use attention=eager")
    batch, heads, seq, head_dim = query.shape
    if seq > 1 and softcap is None and s_aux is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    kv_heads, context = key.shape[1:3]
    rows = query.reshape(batch, kv_heads, heads // kv_heads * seq, head_dim)
    scores = torch.matmul(rows, key.transpose(2, 3)) * (head_dim**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.view(batch, heads, seq, context)
    if attention_mask is None and seq > 1:  # left out where the tokens are the first ones
        attention_mask = torch.ones(seq, context, dtype=torch.bool, device=query.device).tril()
    if attention_mask is not None:  # (batch, 1, seq, context), True where a token may be seen
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    wide = torch.promote_types(scores.dtype, torch.float32)
    if s_aux is not None:  # a score that every token gives to nothing
        scores = torch.cat([scores, s_aux.view(1, -1, 1, 1).expand(batch, heads, seq, 1).to(scores.dtype)], dim=-1)
    weights = scores.softmax(dim=-1, dtype=wide)[..., :context].to(value.dtype)
    seen = torch.matmul(weights.reshape(batch, kv_heads, -1, context), value)
    return seen.view(batch, heads, seq, value.shape[-1]).transpose(1, 2), None


def register() -> None:
    """Make `GROUPED` a name that `set_attn_implementation` knows."""
    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, sdpa_mask)
