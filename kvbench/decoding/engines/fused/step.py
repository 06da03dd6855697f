"""One decode step as a list of kernels over the buffers of a static cache."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton

from kvbench.decoding.engines.fused.kernels import attention_kernel, product_kernel
from kvbench.decoding.engines.fused.weights import NO_GATE, NO_NORM, LayerWeights, ModelWeights

TOKENS_PER_PART = 128  # of a cache that one program attends to, at least
MOST_PARTS = 64
PROGRAMS = 128  # about one for every multiprocessor
BLOCK_TOKENS = 32
SMALL = 4096  # outputs: few programs, each of which must hold much
MATRIX_ROWS = 16  # the fewest that a matrix unit takes


class FusedStep:
    """The kernels of one step for so many rows over one cache; `__call__` launches them all and waits for nothing.

    Tensors that a step reads (`ids` (rows, 1), `positions` (rows or 1, 1), `mask` (rows, columns) or None) are read
    where they are, so that a captured step can be replayed on what was put there.
    """

    def __init__(
        self,
        weights: ModelWeights,
        cache: Any,
        ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        dependent: bool,
    ) -> None:
        self._weights = weights
        self._layers = cache.layers
        self._ids = ids
        self._positions = positions
        self._mask = mask
        self._dependent = dependent
        self._rows = len(ids)
        keys = cache.layers[0].keys
        self._longest = keys.shape[2]
        device, dtype = keys.device, keys.dtype
        pairs = self._rows * weights.kv_heads
        self._parts = parts_of(self._longest, pairs)
        group = weights.heads // weights.kv_heads
        places = torch.arange(self._longest, device=device)[None]
        like = torch.zeros((1, 1, 1), device=device, dtype=dtype)
        cosine, sine = weights.rotate(like, position_ids=places)
        self._cosine, self._sine = cosine[0].contiguous(), sine[0].contiguous()
        hidden = weights.layers[0].q.shape[1]

        def buffer(columns: int) -> torch.Tensor:
            return torch.empty((self._rows, columns), device=device, dtype=dtype)

        self._hidden = buffer(hidden)
        self._qkv = buffer((weights.heads + 2 * weights.kv_heads) * weights.head_dim)
        self._mixed = buffer(weights.heads * weights.head_dim)
        self._inner = buffer(len(weights.layers[0].gate))
        self._logits = buffer(len(weights.head))
        self._partial = torch.empty((pairs, self._parts, group, weights.head_dim), device=device)
        self._summary = torch.empty((pairs, self._parts, 2, group), device=device)
        self._tickets = torch.zeros(pairs, device=device, dtype=torch.int32)
        self._row_positions = torch.zeros(self._rows, device=device, dtype=torch.int64)
        self._starts = torch.zeros(self._rows, device=device, dtype=torch.int64)

    def __call__(self) -> torch.Tensor:
        """Logits (rows, 1, vocabulary) of the tokens in `ids`, which the cache holds afterwards."""
        weights = self._weights
        self._row_positions.copy_(self._positions.expand(self._rows, 1)[:, 0])
        if self._mask is not None:
            torch.sum(self._mask == 0, dim=1, out=self._starts)
        self._hidden.copy_(weights.embed(self._ids)[:, 0])
        for layer, cached in zip(weights.layers, self._layers, strict=True):
            self._attend(layer, cached)
            self._product(self._mixed, layer.o, self._hidden, adds=True)
            self._product(
                self._hidden, layer.gate, self._inner, second=layer.up, norm=layer.before_mlp, gate=weights.gate
            )
            self._product(self._inner, layer.down, self._hidden, adds=True)
        torch._foreach_add_([cached.cumulative_length for cached in self._layers], 1)
        self._product(self._hidden, weights.head, self._logits, norm=weights.final_norm)
        return self._logits[:, None]

    def _attend(self, layer: LayerWeights, cached: Any) -> None:
        weights = self._weights
        self._product(self._hidden, layer.q, self._qkv, second=layer.k, third=layer.v, norm=layer.before_attention)
        group = weights.heads // weights.kv_heads
        attention_kernel[(self._rows * weights.kv_heads, self._parts)](
            self._qkv,
            self._cosine,
            self._sine,
            self._row_positions,
            cached.cumulative_length,
            self._starts,
            cached.keys,
            cached.values,
            layer.q_norm if layer.q_norm is not None else self._cosine,
            layer.k_norm if layer.k_norm is not None else self._cosine,
            self._partial,
            self._summary,
            self._tickets,
            self._mixed,
            weights.scaling,
            weights.eps,
            self._longest,
            KV_HEADS=weights.kv_heads,
            GROUP=group,
            GROUP_ROWS=max(MATRIX_ROWS, triton.next_power_of_2(group)),
            D=weights.head_dim,
            SPLITS=self._parts,
            BLOCK_T=BLOCK_TOKENS,
            QK_NORM=layer.q_norm is not None,
            PADDED=self._mask is not None,
            num_warps=4,
            num_stages=3,
            **self._dependence(),
        )

    def _product(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        out: torch.Tensor,
        *,
        second: torch.Tensor | None = None,
        third: torch.Tensor | None = None,
        norm: torch.Tensor | None = None,
        gate: int = NO_GATE,
        adds: bool = False,
    ) -> None:
        wide, narrow = len(weight), 0 if third is None else len(third)
        columns = weight.shape[1]
        tile = tile_of(out.shape[1], columns, self._rows, normed=norm is not None, gated=gate != NO_GATE)
        product_kernel[(triton.cdiv(out.shape[1], tile.rows),)](
            x,
            weight,
            weight if second is None else second,
            weight if third is None else third,
            weight if norm is None else norm,
            out,
            self._rows,
            wide,
            narrow,
            self._weights.eps,
            K=columns,
            ROWS=1 if self._rows == 1 else max(MATRIX_ROWS, triton.next_power_of_2(self._rows)),
            BLOCK_N=tile.rows,
            BLOCK_K=tile.columns,
            NORM=NO_NORM if norm is None else self._weights.norm,
            GATE=gate,
            THREE=third is not None,
            ADDS=adds,
            num_warps=tile.warps,
            num_stages=tile.stages,
            **self._dependence(),
        )

    def _dependence(self) -> dict[str, Any]:
        """Whether a kernel may begin while the one before it ends (programmatic dependent launch)."""
        return {"DEPENDENT": True, "launch_pdl": True} if self._dependent else {"DEPENDENT": False}


class Tile(NamedTuple):
    """Rows and columns of a matrix that one program holds at a time, and its warps."""

    rows: int
    columns: int
    warps: int
    stages: int = 1  # tiles that are read ahead


def tile_of(outputs: int, columns: int, rows: int, *, normed: bool, gated: bool) -> Tile:
    """Tiles that came out fastest on an H100 with the shapes of Gemma-2B, at 1, 8 and 32 rows (docs/log.md)."""
    small = outputs <= SMALL
    if rows == 1:
        most = triton.next_power_of_2(columns)
        return Tile(2, min(2048, most), 8) if gated else Tile(4, min(1024 if small and normed else 2048, most), 4)
    if small:
        return Tile(32, 64, 4, 5) if normed else Tile(16, 256, 4, 5)
    return Tile(64, 128, 4, 3)


def parts_of(longest: int, pairs: int) -> int:
    """Into how many parts a cache is cut: a power of two, enough to fill the device, none very short."""
    wanted = max(1, min(longest // TOKENS_PER_PART, MOST_PARTS, PROGRAMS // pairs))
    return 1 << (wanted.bit_length() - 1)
