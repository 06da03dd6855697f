"""Prompts as batches of tensors: left padding, right positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvbench.decoding.protocol import PromptBatch


def widened(batch: PromptBatch, columns: int) -> PromptBatch:
    """A batch with room for so many columns: positions count on, and no mask hides what is behind the last token."""
    missing = columns - batch.positions.shape[1]
    if missing <= 0:
        return batch
    further = torch.arange(1, missing + 1, device=batch.positions.device)
    positions = torch.cat([batch.positions, batch.positions[:, -1:] + further], dim=1)
    mask = None
    if batch.mask is not None:
        mask = torch.cat([batch.mask, batch.mask.new_ones((len(batch.mask), missing))], dim=1)
    return PromptBatch(batch.index, batch.input_ids, positions, mask, batch.lengths)


def make_batch(index: int, token_ids: Sequence[Sequence[int]], new_tokens: int, device: torch.device) -> PromptBatch:
    """One batch on the device. Positions count real tokens only: a row's first real token is at 0.

    Rows are filled with their own first token. Attention never sees it, and a repetition penalty, which looks at
    ids alone, then treats a row as it would treat it without padding.
    """
    lengths = tuple(len(ids) for ids in token_ids)
    longest = max(lengths)
    input_ids = torch.tensor([[ids[0]] * (longest - len(ids)) + list(ids) for ids in token_ids])
    padding = torch.tensor([longest - length for length in lengths]).unsqueeze(1)
    columns = torch.arange(longest + new_tokens).unsqueeze(0)
    positions = (columns - padding).clamp(min=0)
    mask = (columns >= padding).long().to(device) if len(set(lengths)) > 1 else None
    return PromptBatch(index, input_ids.to(device), positions.to(device), mask, lengths)
