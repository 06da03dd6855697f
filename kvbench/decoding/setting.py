"""What is set before a run and must not be timed: the attention implementation and the seed of the draws."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

SDPA_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


@dataclass(frozen=True)
class TorchSetting:
    """How an arm wants torch to be: `attention` as in the configuration; `own_attention` is the model's own choice."""

    attention: str
    own_attention: str
    seed: int

    def apply(self, model: Any) -> None:
        """Set the model's attention implementation and torch's global generators, on every device."""
        pinned = "eager" if self.attention == "eager" else "sdpa"
        wanted = self.own_attention if self.attention == "auto" else pinned
        if model.config._attn_implementation != wanted:
            model.set_attn_implementation(wanted)
        torch.manual_seed(self.seed)

    def pinned_backend(self) -> AbstractContextManager[None]:
        """A context in which SDPA may use the pinned backend only."""
        backend = SDPA_BACKENDS.get(self.attention)
        return sdpa_kernel([backend]) if backend is not None else nullcontext()
