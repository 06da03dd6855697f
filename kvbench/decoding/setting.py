"""What is set before a run and must not be timed: the attention implementation and the seed of the draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from kvbench.capabilities.attentions import PACKAGES
from kvbench.decoding import grouped_attention
from kvbench.decoding.grouped_attention import GROUPED
from kvbench.decoding.masks import nothing_packed

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
        """A context in which SDPA may use the pinned backend only."""
        backend = SDPA_BACKENDS.get(self.attention)
        with nothing_packed(), sdpa_kernel([backend]) if backend is not None else nullcontext():
            yield
