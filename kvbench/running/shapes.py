"""Shapes and bytes of one prefill and of one step of each mode, with the meaning of every dimension."""

from __future__ import annotations

from typing import Any

import torch

from kvbench.decoding.cache_bytes import layer_shapes
from kvbench.decoding.forward import Forward
from kvbench.decoding.protocol import Decoder, PromptBatch, Unobserved
from kvbench.plan import Arm


def prefill_shapes(batch: PromptBatch, vocab_size: int | None, dtype: torch.dtype) -> dict[str, Any]:
    """Of the pass over the whole prompt, which every mode begins with."""
    rows, prompt = batch.input_ids.shape
    return {
        "input_ids": {"shape": [rows, prompt], "dimensions": ["batch", "prompt"]},
        "logits": _last_logits(rows, vocab_size, dtype),
    }


def step_shapes(
    arm: Arm, decoder: Decoder, forward: Forward, batch: PromptBatch, vocab_size: int | None, dtype: torch.dtype
) -> dict[str, Any]:
    """Of the first step after the prefill; the cache's layers are read from one that the arm has filled."""
    rows, prompt = batch.input_ids.shape
    submitted = 1 if arm.keeps_past else prompt + 1
    layers: list[dict[str, Any]] = []
    if arm.keeps_past:
        decoder.prepare(None)
        cache = decoder.run(batch, 2, Unobserved()).cache
        layers = [{**layer, "dimensions": ["batch", "kv_heads", "seq", "head_dim"]} for layer in layer_shapes(cache)]
    logits = _last_logits(rows, vocab_size, dtype)
    if arm.mode == "nocache_naive" or (forward.full_logits and not arm.keeps_past):
        logits = _all_logits(rows, submitted, vocab_size, dtype)
    return {
        "input_ids": {"shape": [rows, submitted], "dimensions": ["batch", "submitted"]},
        "logits": logits,
        "cache_layers": layers,
    }


def _last_logits(rows: int, vocab_size: int | None, dtype: torch.dtype) -> dict[str, Any]:
    size = rows * (vocab_size or 0) * dtype.itemsize
    return {"shape": [rows, vocab_size], "dimensions": ["batch", "vocabulary"], "bytes": size or None}


def _all_logits(rows: int, submitted: int, vocab_size: int | None, dtype: torch.dtype) -> dict[str, Any]:
    size = rows * submitted * (vocab_size or 0) * dtype.itemsize
    dimensions = ["batch", "submitted", "vocabulary"]
    return {"shape": [rows, submitted, vocab_size], "dimensions": dimensions, "bytes": size or None}
