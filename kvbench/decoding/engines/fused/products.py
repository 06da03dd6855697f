"""The products of a step, and Yuan's localized filter, on the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton

from kvbench.decoding.engines.fused.filter_kernels import first_convolution_kernel, window_kernel
from kvbench.decoding.engines.fused.kernels import product_kernel
from kvbench.decoding.engines.fused.weights import NO_GATE, NO_NORM, FilterWeights, ModelWeights
from kvbench.models.yuan import INPUTS

SMALL = 4096  # outputs: few programs, each of which must hold much
MATRIX_ROWS = 16  # the fewest that a matrix unit takes


class Products:
    """Launches `product_kernel` for norms and gates of one model; `dependent` as in `dependence`."""

    def __init__(self, *, norm: int, eps: float, dependent: bool) -> None:
        self._norm = norm
        self._eps = eps
        self._dependent = dependent

    def __call__(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        out: torch.Tensor,
        *,
        second: torch.Tensor | None = None,
        third: torch.Tensor | None = None,
        third_x: torch.Tensor | None = None,
        norm: torch.Tensor | None = None,
        eps: float | None = None,
        gate: int = NO_GATE,
        adds: bool = False,
    ) -> None:
        """`x` (rows, columns) times `weight` (outputs, columns) into `out`, all contiguous; see the kernel.

        The third weight takes `third_x` without a norm, where it is given. `eps` is the model's where none is given.
        """
        wide, narrow = len(weight), 0 if third is None else len(third)
        rows, columns = x.shape
        tile = tile_of(out.shape[1], columns, rows, normed=norm is not None, gated=gate != NO_GATE)
        product_kernel[(triton.cdiv(out.shape[1], tile.rows),)](
            x,
            weight,
            weight if second is None else second,
            weight if third is None else third,
            third_x,
            weight if norm is None else norm,
            out,
            rows,
            wide,
            narrow,
            self._eps if eps is None else eps,
            K=columns,
            ROWS=1 if rows == 1 else max(MATRIX_ROWS, triton.next_power_of_2(rows)),
            BLOCK_N=tile.rows,
            BLOCK_K=tile.columns,
            NORM=NO_NORM if norm is None else self._norm,
            GATE=gate,
            THREE=third is not None,
            ADDS=adds,
            num_warps=tile.warps,
            num_stages=tile.stages,
            **dependence(self._dependent),
        )


def dependence(dependent: bool) -> dict[str, Any]:
    """Whether a kernel may begin while the one before it ends (programmatic dependent launch), as launch options."""
    return {"DEPENDENT": True, "launch_pdl": True} if dependent else {"DEPENDENT": False}


class Tile(NamedTuple):
    """Rows and columns of a matrix that one program holds at a time, and its warps."""

    rows: int
    columns: int
    warps: int
    stages: int = 1  # tiles that are read ahead


def tile_of(outputs: int, columns: int, rows: int, *, normed: bool, gated: bool) -> Tile:
    """Tiles that came out fastest on an H100 with the shapes of Gemma-2B, at 1, 8 and 32 rows (docs/log.md).

    Beyond 32 rows what is read ahead must still fit a multiprocessor's memory: a filter has two rows a sequence.
    """
    small = outputs <= SMALL
    if rows == 1:
        most = triton.next_power_of_2(columns)
        return Tile(2, min(2048, most), 8) if gated else Tile(4, min(1024 if small and normed else 2048, most), 4)
    if small:
        return Tile(32, 64, 4, 5) if normed else Tile(16, min(256, max(32, 8192 // triton.next_power_of_2(rows))), 4, 5)
    return Tile(64, 128, 4, 3)


# Yuan's localized filter in a decode step: what its queries and keys are made of, and what its cache holds next.


FIRST_TILE = Tile(2, 2048, 8)  # all programs of a first convolution of 2,048 channels are on an H100 at once
WINDOW_WARPS = 8


class Filters:
    """The filters of a model's layers over one cache of so many rows; `dependent` as in `dependence`."""

    def __init__(self, weights: ModelWeights, cached: Sequence[Any], products: Products, *, dependent: bool) -> None:
        self._eps = weights.eps
        self._products = products
        self._dependent = dependent
        self._states = [layer.conv_states[INPUTS] for layer in cached]
        rows, hidden, _ = self._states[0].shape
        like = self._states[0]
        self._ahead = [torch.empty_like(state) for state in self._states]
        self._windows = like.new_empty((2 * rows, 2 * hidden))
        self._inner = like.new_empty((2 * rows, hidden // 2))
        self._x = like.new_empty((rows, hidden))
        self._filtered = like.new_empty((rows, hidden))

    def __call__(
        self, index: int, hidden: torch.Tensor, before: torch.Tensor, weights: FilterWeights
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Layer `index`: `hidden` (rows, hidden) to the filter's output before its norm, and the normed `hidden`.

        `before` (hidden,) is the norm before the filter. Both results are written over by the next layer.
        """
        launch = self._first if len(hidden) == 1 else self._first_of_many
        launch(index, hidden, before, weights)
        windows = self._inner.view(hidden.shape)
        self._products(windows, weights.second, self._filtered, adds=True)
        return self._filtered, self._x

    def advance(self) -> None:
        """Let the cache hold the inputs that the next token looks back on, once all layers have been through."""
        torch._foreach_copy_(self._states, self._ahead)

    def _first(self, index: int, hidden: torch.Tensor, before: torch.Tensor, weights: FilterWeights) -> None:
        columns = hidden.shape[1]
        first_convolution_kernel[(triton.cdiv(len(weights.first), FIRST_TILE.rows),)](
            hidden,
            before,
            self._states[index],
            weights.first,
            weights.first_bias,
            weights.second_bias,
            self._inner,
            self._ahead[index],
            self._x,
            self._filtered,
            self._eps,
            H=columns,
            BLOCK_N=FIRST_TILE.rows,
            BLOCK_K=min(FIRST_TILE.columns, triton.next_power_of_2(columns)),
            num_warps=FIRST_TILE.warps,
            num_stages=FIRST_TILE.stages,
            **dependence(self._dependent),
        )

    def _first_of_many(self, index: int, hidden: torch.Tensor, before: torch.Tensor, weights: FilterWeights) -> None:
        rows, columns = hidden.shape
        window_kernel[(rows,)](
            hidden,
            before,
            self._states[index],
            weights.first_bias,
            weights.second_bias,
            self._windows,
            self._inner,
            self._ahead[index],
            self._x,
            self._filtered,
            self._eps,
            H=columns,
            BLOCK=triton.next_power_of_2(columns),
            num_warps=WINDOW_WARPS,
            **dependence(self._dependent),
        )
        self._products(self._windows, weights.first, self._inner, adds=True)
