"""One decode step as a list of kernels over the buffers of a static cache, and the engine that runs it."""

from __future__ import annotations

from typing import Any

import torch
import triton
from triton.runtime.errors import TritonError

from kvbench.decoding.engines.engine import CacheState, Repeat
from kvbench.decoding.engines.fused.kernels import attention_kernel, document_kernel
from kvbench.decoding.engines.fused.products import MATRIX_ROWS, Filters, Products, dependence
from kvbench.decoding.engines.fused.weights import LayerWeights, ModelWeights, read_weights
from kvbench.decoding.engines.graph import Graph
from kvbench.errors import ModelUnavailable, reason_of
from kvbench.models.yuan import FIRST_VISIBLE

TOKENS_PER_PART = 128  # of a cache that one program attends to, at least
MOST_PARTS = 32  # one program joins them all
PROGRAMS = 128  # about one for every multiprocessor
BLOCK_TOKENS = 32


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
        self._product = Products(norm=weights.norm, eps=weights.eps, dependent=dependent)
        self._filters = Filters(weights, cache.layers, self._product, dependent=dependent) if weights.filtered else None
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
        if weights.document_end is not None:
            self._find_documents(weights.document_end)
        self._hidden.copy_(weights.embed(self._ids)[:, 0])
        for index, (layer, cached) in enumerate(zip(weights.layers, self._layers, strict=True)):
            self._project(index, layer)
            self._attend(layer, cached)
            self._product(self._mixed, layer.o, self._hidden, adds=True)
            self._product(
                self._hidden, layer.gate, self._inner, second=layer.up, norm=layer.before_mlp, gate=weights.gate
            )
            self._product(self._inner, layer.down, self._hidden, adds=True)
        torch._foreach_add_([cached.cumulative_length for cached in self._layers], 1)
        if self._filters is not None:
            self._filters.advance()
        self._product(self._hidden, weights.head, self._logits, norm=weights.final_norm)
        return self._logits[:, None]

    def _find_documents(self, end: int) -> None:
        first = self._layers[0]
        document_kernel[(self._rows,)](
            self._ids,
            first.cumulative_length,
            first.conv_states[FIRST_VISIBLE],
            self._starts,
            end,
            PADDED=self._mask is not None,
            num_warps=1,
        )

    def _project(self, index: int, layer: LayerWeights) -> None:
        if self._filters is None or layer.filter is None:
            self._product(self._hidden, layer.q, self._qkv, second=layer.k, third=layer.v, norm=layer.before_attention)
            return
        filtered, x = self._filters(index, self._hidden, layer.before_attention, layer.filter)
        norm, eps = layer.filter.norm, layer.filter.eps
        self._product(filtered, layer.q, self._qkv, second=layer.k, third=layer.v, third_x=x, norm=norm, eps=eps)

    def _attend(self, layer: LayerWeights, cached: Any) -> None:
        weights = self._weights
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
            PAIRED=weights.filtered,
            PADDED=self._mask is not None or weights.document_end is not None,
            num_warps=4,
            num_stages=3,
            **dependence(self._dependent),
        )


def parts_of(longest: int, pairs: int) -> int:
    """Into how many parts a cache is cut: a power of two, enough to fill the device, none very short."""
    wanted = max(1, min(longest // TOKENS_PER_PART, MOST_PARTS, PROGRAMS // pairs))
    return 1 << (wanted.bit_length() - 1)


# The engine of hand-written kernels: checked against the model at every preparation, then captured and replayed.


# Of the largest logit. Far above any rounding: what it finds is a model that these kernels do not know, and the
# agreement check judges the rest.
UNLIKE = 0.25
PROGRAMMATIC_LAUNCH = (9, 0)  # the first compute capability on which a kernel may begin while another ends


class Fused(Graph):
    """A cached step of a model of a known family; see `Engine` and `FusedStep`."""

    def _prepared(self, tensors: dict[str, torch.Tensor], cache: Any | None, fixed: dict[str, Any]) -> Repeat:
        buffers = {name: tensor.clone() for name, tensor in tensors.items()}
        step = FusedStep(
            read_weights(self._model),
            cache,
            buffers["input_ids"],
            buffers["position_ids"],
            buffers.get("attention_mask"),
            dependent=torch.cuda.get_device_capability(self._device) >= PROGRAMMATIC_LAUNCH,
        )
        before = CacheState(cache)
        known = self._plain(**self._handing(cache), **fixed, **tensors).logits.float()
        before.restore()
        try:
            repeat = self._captured(step, buffers, cache)
        except TritonError as error:
            raise ModelUnavailable(
                f"engine=fused: its kernels do not run on this device ({reason_of(error)}); use engine=compiled"
            ) from error
        # The replayed pass is what is held against the model, not the one that it was captured from.
        difference = float((repeat(tensors).float() - known).abs().max() / known.abs().max())
        before.restore()
        if not difference < UNLIKE:
            raise ModelUnavailable(
                f"engine=fused: its kernels are not what {type(self._model).__name__} computes (logits {difference:.0%}"
                " apart); use engine=compiled"
            )
        return repeat
