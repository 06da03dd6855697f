"""A model of your own for `model=python model.target=package.module:factory`: what it has to offer, and what it may.

`model.target` names a factory, importable from the current folder too: a class, or a function that returns the
object; `model.options` become its keyword arguments. No base class is wanted from kvbench, and nothing of torch to read
this page. An `nn.Module` is put into eval mode, moved to the run's device and, with `model.dtype`, cast; any other
callable is taken as it is.

Three things decide what a run of your model says:

- Recompute is `model(ids)`. Cached is `model(ids, cache)` on a cache of `model.new_cache(batch_size)`: the whole prompt
  once, then one token a step. A model without `new_cache` can be measured with `mode=nocache`.
- Whether the cache is used is looked at inside the model, in an untimed pass: how many positions its embeddings and its
  products with weights were given. The loop hands in one token, but a model that joins it to ids it has kept and runs
  them all again has used no cache, and the run is INVALID.
- Whether the cache is right is judged as for any model: logits of both modes on the same tokens, against what rounding
  alone does.

All rows of a batch have one length: no mask and no positions are handed in. The modes `generate`, `generate_nocache`
and `nocache_naive`, quantisation, `model.device_map` and any `attention` but auto belong to transformers' models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class OwnModel(Protocol):
    """The least that a model offers: one forward pass without a past.

    It may also have, as attributes: `vocab_size` (default: the width of its logits), `max_context` (tokens that it can
    hold; default: no limit), and `encode` with `decode` (see `OwnText`; default: bytes as ids, modulo the vocabulary).
    """

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """`ids` (batch, seq) int64 to logits (batch, seq, vocabulary), or of the last position alone, (batch, 1, …)."""


class OwnCachedModel(OwnModel, Protocol):
    """A model with a cache."""

    def new_cache(self, batch_size: int) -> Any:
        """An empty cache for so many sequences: any object, which the model itself fills (`OwnCache`)."""

    def __call__(self, ids: torch.Tensor, cache: Any = None) -> torch.Tensor:
        """With a cache, `ids` hold only the tokens that it lacks, and the call adds them to it.

        That is the prompt, then one token a step; in `mode=resumed` also several tokens behind a past.
        """


class OwnCache(Protocol):
    """What a cache may offer. None of it is needed; what is missing is not checked, and the run says so."""

    @property
    def length(self) -> int:
        """Tokens of each sequence that it holds, so that the run can check that it grows.

        The same may be told by `get_seq_length()`, as transformers' caches do, or by `len(cache)`. A capacity, which is
        not 0 while the cache is empty, is no length, nor is a number of layers.
        """

    def tensors(self) -> Iterable[torch.Tensor]:
        """What its bytes are counted from (default: every tensor found in its attributes, lists, tuples and dicts)."""


class OwnText(Protocol):
    """How a model with a tokenizer of its own reads and writes text."""

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
