"""Which other implementations of attention could decode what an arm's own decodes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kvbench.capabilities import attention_conflict, takes_masks
from kvbench.decoding.protocol import PromptBatch
from kvbench.errors import KvbenchError
from kvbench.models.fitting import free_bytes

EAGER_BYTES = 12  # a score of eager attention at its worst: in float32 before and after the softmax, and its mask


def second_attention(own: str, first: str, heads: int, batch: PromptBatch, device: torch.device) -> str | None:
    """See `Reorderable.second_attention`; `own` is the model's, `first` the first arm's."""
    if "eager" in (own, first):
        # Where eager is an architecture's own choice, SDPA may lack something of it, such as soft-capping.
        return "sdpa" if own == "sdpa" else None
    rows, length = len(batch.lengths), batch.positions.shape[1]
    scores = rows * heads * length**2
    fits = scores * EAGER_BYTES < free_bytes(device) / 2
    return "eager" if scores and fits else None


def other_attentions(own: str, device_type: str, *, masked: bool, decode: Callable[[str], None]) -> tuple[str, ...]:
    """One attention besides `own`, an arm's, that can decode it, or none.

    Found by trying, since availability depends on type, shape and device: `decode` takes a step under an attention.
    """
    for name in ("math",) if device_type == "cpu" else ("flash", "efficient", "math"):
        conflict = attention_conflict(name, device_type) is not None
        if conflict or name == own or (masked and not takes_masks(name, device_type)):
            continue
        try:
            decode(name)
        except (KvbenchError, RuntimeError, ValueError):  # no such kernel for this model
            continue
        return (name,)
    return ()
