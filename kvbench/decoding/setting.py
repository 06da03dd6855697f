"""What is set before a run and must not be timed: the attention implementation and the seed of the draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from kvbench.capabilities import ATTENTION_PACKAGES
from kvbench.decoding import grouped_attention
from kvbench.decoding.grouped_attention import GROUPED
from kvbench.decoding.masks import nothing_packed
from kvbench.errors import ModelUnavailable, reason_of

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
    **{name: name for name in ATTENTION_PACKAGES},
}
grouped_attention.register()

NO_KERNEL = "No available kernel"  # SDPA's words where the pinned backend takes none of what it is given
COMPILER_ERROR = "InductorError"  # by name: its module takes seconds to import


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
        # Some architectures have one attention and keep it without a word; it must not be measured by another's name.
        if model.config._attn_implementation != wanted:
            raise ModelUnavailable(
                f"attention={self.attention}: {type(model).__name__} has {model.config._attn_implementation} attention"
                " alone: leave it out"
            )
        torch.manual_seed(self.seed)

    @contextmanager
    def pinned_backend(self) -> Iterator[None]:
        """A context in which SDPA may use the pinned backend only.

        Raises `ModelUnavailable` where an attention that was asked for cannot do what the model wants of it.
        """
        backend = SDPA_BACKENDS.get(self.attention)
        try:
            with nothing_packed(), sdpa_kernel([backend]) if backend is not None else nullcontext():
                yield
        except RuntimeError as error:
            if backend is not None and NO_KERNEL in str(error):
                why = "SDPA has no such kernel for these heads, their size, type or mask on this device"
            elif self.attention == "flex" and type(error).__name__ == COMPILER_ERROR:
                why = f"torch could not build its kernel ({reason_of(error)})"
            else:
                raise
            raise ModelUnavailable(f"attention={self.attention}: {why}: use attention=sdpa") from error
