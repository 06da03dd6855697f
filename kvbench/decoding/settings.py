"""What is set before a run and must not be timed: the attention implementation, its masks, and the seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AttentionMaskInterface, masking_utils
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from kvbench.capabilities import ATTENTION_PACKAGES
from kvbench.errors import ModelUnavailable, reason_of
from kvbench.models.signature import attention_of

# What transformers does about masks that a measured pass can do without.


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


# Attention for one query at a time, through transformers' own registry of attention functions.
# Query heads that share a key-value head are rows of one matrix, so a step reads every key and value once, whatever
# the number of heads that look at it (grouped-query attention, arXiv:2305.13245).


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


def register_grouped() -> None:
    """Make `GROUPED` a name that `set_attn_implementation` knows."""
    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, sdpa_mask)


# What is set before a run and must not be timed: the attention implementation and the seed of the draws.


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
register_grouped()

NO_KERNEL = "No available kernel"  # SDPA's words where the pinned backend takes none of what it is given
NO_ATTENTION = "can only be called on Attention layers"  # a cache's words where none counts tokens
COMPILER_ERROR = "InductorError"  # by name: its module takes seconds to import


@dataclass(frozen=True)
class SessionSettings:
    """How an arm wants torch to be: `attention` as in the configuration; `own_attention` is the model's own choice."""

    attention: str
    own_attention: str
    seed: int

    def apply(self, model: Any) -> None:
        """Set the model's attention implementation and torch's global generators, on every device."""
        wanted = IMPLEMENTATIONS.get(self.attention, "sdpa") if self.attention != "auto" else self.own_attention
        if attention_of(model) != wanted:
            model.set_attn_implementation(wanted)
        # Some architectures have one attention and keep it without a word; it must not be measured by another's name.
        if (has := attention_of(model)) != wanted:
            raise ModelUnavailable(
                f"attention={self.attention}: {type(model).__name__} has {has} attention alone: leave it out"
            )
        torch.manual_seed(self.seed)

    @contextmanager
    def pinned_backend(self) -> Iterator[None]:
        """A context in which SDPA may use the pinned backend only.

        Raises `ModelUnavailable` where an attention that was asked for cannot do what the model wants of it, or where a
        model wants one and has none.
        """
        backend = SDPA_BACKENDS.get(self.attention)
        try:
            with nothing_packed(), sdpa_kernel([backend]) if backend is not None else nullcontext():
                yield
        except ValueError as error:
            if NO_ATTENTION not in str(error):
                raise
            raise ModelUnavailable(
                "this model has no attention layer, and transformers counts the tokens of its cache by one: use"
                " mode=nocache"
            ) from error
        except RuntimeError as error:
            if backend is not None and NO_KERNEL in str(error):
                why = "SDPA has no such kernel for these heads, their size, type or mask on this device"
            elif self.attention == "flex" and type(error).__name__ == COMPILER_ERROR:
                why = f"torch could not build its kernel ({reason_of(error)})"
            else:
                raise
            raise ModelUnavailable(f"attention={self.attention}: {why}: use attention=sdpa") from error
