"""The same mathematics rounded otherwise: other shapes, another attention, and every product in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kvbench.decoding.protocol import PromptBatch

NOISE_PADDING = 3  # columns; odd, so that rows are laid out and blocked differently in every kernel
SHUFFLE_SEED = 7


@dataclass(frozen=True)
class OtherOrder:
    """One way of computing what a model computes anyway, summed in another order.

    `batch` turns a batch into the one that is submitted, whose first rows are the original's; `by_product` says that
    the products themselves are reordered, whatever the shapes.
    """

    name: str
    batch: Callable[[PromptBatch], PromptBatch] = lambda batch: batch
    attention: str | None = None
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    by_product: bool = False


def other_orders(*, takes_masks: bool, second_attention: str | None) -> Iterator[OtherOrder]:
    """Every way that can be tried: shapes make kernels split and sum differently, reordered products surely do.

    `takes_masks` is whether the attention can leave padding out, `second_attention` an implementation of it other than
    the arm's own, None where there is none that fits.
    """
    yield OtherOrder("sums from the other end", context=lambda: ReorderedProducts(reversed_order), by_product=True)
    yield OtherOrder("sums in a shuffled order", context=lambda: ReorderedProducts(_shuffled), by_product=True)
    yield OtherOrder("twice the rows", doubled)
    if takes_masks:
        yield OtherOrder(f"{NOISE_PADDING} columns of padding", padded)
    if second_attention is not None:
        yield OtherOrder(f"{second_attention} attention", attention=second_attention)


class ReorderedProducts(TorchDispatchMode):
    """Within it every product of matrices and every attention score is summed in another order.

    `order` gives the indices of so many summands in their new order. It acts on torch's operators, so that `x @ W`,
    `einsum`, a linear layer of any class and a convolution are reordered alike. No weight is changed; the packed
    tensors of a quantiser are left alone.
    """

    def __init__(self, order: Callable[[int], torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._order = order
        self._known: dict[tuple[int, torch.device], torch.Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every operator."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in _COMPOSED:
            with self:  # its products come back to this method one by one
                return func.decompose(*args, **kwargs)
        place = _PRODUCTS.get(name)
        if place is not None and _plain(args[place], args[place + 1]):
            first, second = args[place], args[place + 1]
            order = self._indices(first.shape[-1], first.device)
            across = -1 if name == "linear" or second.ndim == 1 else -2
            moved = (first.index_select(-1, order), second.index_select(second.ndim + across, order))
            args = (*args[:place], *moved, *args[place + 2 :])
        elif name.startswith("_scaled_dot_product") and _plain(args[0], args[1]):
            order = self._indices(args[0].shape[-1], args[0].device)
            args = (args[0].index_select(-1, order), args[1].index_select(-1, order), *args[2:])
        elif name == "convolution" and _plain(args[0], args[1]) and args[8] == 1:
            order = self._indices(args[0].shape[1], args[0].device)
            args = (args[0].index_select(1, order), args[1].index_select(1, order), *args[2:])
        return func(*args, **kwargs)

    def _indices(self, count: int, device: torch.device) -> torch.Tensor:
        key = (count, device)
        if key not in self._known:
            self._known[key] = self._order(count).to(device)
        return self._known[key]


# Where the first of the two factors stands among an operator's arguments.
_PRODUCTS = {
    "mm": 0, "bmm": 0, "mv": 0, "dot": 0, "linear": 0, "addmm": 1, "baddbmm": 1, "addmv": 1, "_grouped_mm": 0,
}  # fmt: skip
# Operators that are made of these; in inference mode they arrive whole.
_COMPOSED = (
    "matmul",
    "einsum",
    "scaled_dot_product_attention",
    "conv1d",
    "conv2d",
    "bilinear",
    "tensordot",
    "chain_matmul",
)


def reversed_order(count: int) -> torch.Tensor:
    """The indices of so many summands from the last to the first."""
    return torch.arange(count - 1, -1, -1)


def _shuffled(count: int) -> torch.Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(SHUFFLE_SEED + count))


def _plain(*operands: Any) -> bool:
    """Tensors of floating numbers, not the packed ones of a quantiser."""
    return all(type(each) in (torch.Tensor, torch.nn.Parameter) and each.is_floating_point() for each in operands)


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
