"""What rounding alone does to a model's logits: the baseline against itself, summed in other orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from kvbench.decoding.protocol import PromptBatch
from kvbench.errors import KvbenchError, reason_of
from kvbench.records.agreement_figures import TriedWay

NOISE_PADDING = 3  # columns; odd, so that rows are laid out and blocked differently in every kernel
Logits = list[torch.Tensor]  # one (batch, vocabulary) a step


def rounding_noise(
    follow: Callable[[PromptBatch, torch.Tensor, str | None], Logits],
    batch: PromptBatch,
    path: torch.Tensor,
    reference: Sequence[torch.Tensor],
    *,
    takes_masks: bool,
    second_attention: str | None,
) -> tuple[TriedWay, ...]:
    """The baseline's largest difference from itself in each way of summing that could be tried.

    `follow` runs the baseline over a batch along a path (batch, steps), with another attention than its own when one is
    named. The mathematics is the same in every way, so all that differs is rounding; nothing depends on a candidate.
    `takes_masks` is whether the baseline's attention can leave padding out, `second_attention` an implementation of it
    other than its own, None where there is none that fits.
    """
    found = []
    for way in _ways(batch, path, takes_masks, second_attention):
        try:
            with way.order:
                logits = follow(way.batch, way.path, way.attention)
        except (KvbenchError, RuntimeError, ValueError, ImportError) as error:  # no such kernel, or no memory for it
            found.append(TriedWay(way=way.name, max_abs=None, skipped=f"{type(error).__name__}: {reason_of(error)}"))
            continue
        difference = largest_difference(reference, [step[: len(path)] for step in logits])
        if math.isfinite(difference):
            found.append(TriedWay(way=way.name, max_abs=difference))
        else:
            found.append(TriedWay(way=way.name, max_abs=None, skipped="it gave logits that are not finite numbers"))
    return tuple(found)


def largest_difference(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> float:
    """The largest absolute difference over all steps; not a number if any is not."""
    # torch's max keeps a NaN, Python's would lose it.
    return float(torch.stack([(a - b).abs().max() for a, b in zip(first, second, strict=True)]).max())


@dataclass(frozen=True)
class _Way:
    name: str
    batch: PromptBatch
    path: torch.Tensor
    attention: str | None = None
    order: AbstractContextManager[Any] = nullcontext()


def _ways(batch: PromptBatch, path: torch.Tensor, takes_masks: bool, second_attention: str | None) -> Iterator[_Way]:
    """Other shapes make kernels split and sum differently, though often not by much; the others surely do."""
    yield _Way("twice the rows", doubled(batch), path.repeat(2, 1))
    if takes_masks:
        yield _Way(f"{NOISE_PADDING} columns of padding", padded(batch), path)
    if second_attention is not None:
        yield _Way(f"{second_attention} attention", batch, path, second_attention)
    yield _Way("sums from the other end", batch, path, order=FromTheOtherEnd())


class FromTheOtherEnd(TorchFunctionMode):
    """Within it every linear layer adds up its products in the opposite order; no weight is changed."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every operation."""
        if func is functional.linear and _plain(args[:2]):
            args = (args[0].flip(-1), args[1].flip(-1), *args[2:])
        elif func is torch.addmm and _plain(args[1:3]):  # GPT-2's layers
            args = (args[0], args[1].flip(-1), args[2].flip(0), *args[3:])
        return func(*args, **(kwargs or {}))


def _plain(operands: Sequence[Any]) -> bool:
    """Two tensors of numbers, not the packed ones of a quantiser."""
    return len(operands) == 2 and all(type(each) in (torch.Tensor, torch.nn.Parameter) for each in operands)


def doubled(batch: PromptBatch) -> PromptBatch:
    """Every row twice."""
    mask = None if batch.mask is None else batch.mask.repeat(2, 1)
    rows = batch.input_ids.shape[0]
    positions = batch.positions.expand(rows, -1).repeat(2, 1)
    return PromptBatch(batch.index, batch.input_ids.repeat(2, 1), positions, mask, batch.lengths * 2)


def padded(batch: PromptBatch) -> PromptBatch:
    """`NOISE_PADDING` columns of padding before every row, positions as they were."""
    rows, total = batch.input_ids.shape[0], batch.positions.shape[1]
    mask = batch.positions.new_ones((rows, total)) if batch.mask is None else batch.mask
    blank = (rows, NOISE_PADDING)
    return PromptBatch(
        batch.index,
        torch.cat([batch.input_ids[:, :1].expand(blank), batch.input_ids], dim=1),
        torch.cat([batch.positions.new_zeros(blank), batch.positions.expand(rows, -1)], dim=1),
        torch.cat([mask.new_zeros(blank), mask], dim=1),
        batch.lengths,
    )
