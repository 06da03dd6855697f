"""What transformers does about masks that a measured pass can do without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import masking_utils
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

SDPA = "sdpa"


@contextmanager
def nothing_packed() -> Iterator[None]:
    """A context in which no rows are taken for packed documents, which kvbench never makes.

    transformers looks for restarting positions in every pass without a mask and a cache: a wait for the device at
    every step, and under a compiler a full mask, which keeps the fast kernels out.
    """
    look = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = _none_packed
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = look


@contextmanager
def causal_without_mask() -> Iterator[None]:
    """A context in which SDPA is told that a pass is causal instead of being handed the mask, as in plain PyTorch.

    While a pass is traced or captured transformers writes out every mask, lest it be exported with another length.
    Here each length is prepared by itself.
    """
    usual = ALL_MASK_ATTENTION_FUNCTIONS[SDPA]
    ALL_MASK_ATTENTION_FUNCTIONS[SDPA] = _mask_or_causal
    try:
        yield
    finally:
        ALL_MASK_ATTENTION_FUNCTIONS[SDPA] = usual


def _none_packed(position_ids: torch.Tensor) -> None:  # noqa: ARG001 - the shape of what it stands for
    return None


def _mask_or_causal(**asked: Any) -> torch.Tensor | None:
    window = asked.get("local_size")
    length = asked["kv_length"]
    causal = (
        asked.get("allow_is_causal_skip", True)
        and asked.get("attention_mask") is None
        and asked["q_length"] == length
        and isinstance(asked.get("q_offset", 0), int)
        and asked.get("q_offset", 0) == 0
        and (window is None or length < window)
    )
    return None if causal else sdpa_mask(**asked)
