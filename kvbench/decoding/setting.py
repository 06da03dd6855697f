"""What is set before a run and must not be timed: the attention implementation and the seed of the draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import masking_utils

from kvbench.capabilities.attentions import PACKAGES
from kvbench.decoding import grouped_attention
from kvbench.decoding.grouped_attention import GROUPED

SDPA_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
# What transformers calls them, where it is not its SDPA with a backend pinned.
IMPLEMENTATIONS = {
    "eager": "eager",
    GROUPED: GROUPED,
    "flex": "flex_attention",
    **{name: name for name in PACKAGES},
}
grouped_attention.register()


@dataclass(frozen=True)
class TorchSetting:
    """How an arm wants torch to be: `attention` as in the configuration; `own_attention` is the model's own choice."""

    attention: str
    own_attention: str
    seed: int

    def apply(self, model: Any) -> None:
        """Set the model's attention implementation and torch's global generators, on every device."""
        wanted = IMPLEMENTATIONS.get(self.attention, "sdpa") if self.attention != "auto" else self.own_attention
        if model.config._attn_implementation != wanted:
            model.set_attn_implementation(wanted)
        torch.manual_seed(self.seed)

    @contextmanager
    def pinned_backend(self) -> Iterator[None]:
        """A context in which SDPA may use the pinned backend only, and no rows are taken for packed documents.

        transformers looks for restarting positions in every pass without a mask and a cache: a wait for the device at
        every step, and under a compiler a full mask, which keeps the fast kernels out. kvbench never packs rows.
        """
        backend = SDPA_BACKENDS.get(self.attention)
        look = masking_utils.find_packed_sequence_indices
        masking_utils.find_packed_sequence_indices = _none_packed
        try:
            with sdpa_kernel([backend]) if backend is not None else nullcontext():
                yield
        finally:
            masking_utils.find_packed_sequence_indices = look


def _none_packed(position_ids: torch.Tensor) -> None:  # noqa: ARG001 - the shape of what it stands for
    return None
