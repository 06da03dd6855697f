"""Yuan's localized filter in a decode step: what its queries and keys are made of, and what its cache holds next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton

from kvbench.decoding.engines.fused.filter_kernels import first_convolution_kernel, window_kernel
from kvbench.decoding.engines.fused.products import Products, Tile, dependence
from kvbench.decoding.engines.fused.weights import FilterWeights, ModelWeights
from kvbench.models.yuan import INPUTS

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
