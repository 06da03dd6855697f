"""One forward pass of a causal language model, whatever its signature, and the batches that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache, StaticCache

from kvbench.decoding.protocol import PromptBatch
from kvbench.errors import ModelUnavailable
from kvbench.library_versions import untested
from kvbench.models.own import OwnCausalLM, OwnPast
from kvbench.models.signature import signature_of
from kvbench.passes import common_beginning

# Prompts as batches of tensors: left padding, right positions.


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
    return replace(batch, positions=positions, mask=mask)


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
    shared = common_beginning(token_ids)
    return PromptBatch(index, input_ids.to(device), positions.to(device), mask, lengths, shared)


# One forward pass, whatever the signature of the model.


class Forward:
    """Calls a model with the arguments that its `forward` knows.

    `logits_to_keep=1` computes the last position's logits only; the eight or so architectures without it compute all
    of them and are sliced, which `full_logits` tells. Explicit positions are passed wherever they are accepted:
    some architectures miscount from a cache alone.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.signature = signature_of(model)
        # Bloom's slopes are as long as its mask, and are added to scores over all of a static cache.
        self._slopes_by_mask = hasattr(getattr(model, "transformer", None), "build_alibi_tensor")

    @property
    def full_logits(self) -> bool:
        """Whether logits of all positions are computed although one is wanted."""
        return not self.signature.logits_to_keep

    def require_cache(self) -> None:
        """Raise `ModelUnavailable` when the model takes no cache and makes no state of its own."""
        if not self.signature.keeps_past:
            # Of a transformers that renamed the argument once more, the model is not to blame.
            version = untested()
            raise ModelUnavailable(
                f"{type(self.model).__name__} takes no cache, so mode=cached cannot run: use mode=nocache"
                + (f" ({version})" if version else "")
            )

    def new_past(self, rows: int) -> OwnPast | None:  # noqa: ARG002 - a state takes its size from the first pass
        """An empty past of the model's own kind; None where the model takes transformers' caches."""
        return OwnPast(None) if self.signature.makes_state else None

    def fills_cache(self) -> bool:
        """Whether one token, handed in with an empty cache, is in that cache afterwards."""
        if self.signature.makes_state:
            return True  # what it makes itself it fills
        cache = DynamicCache(config=self.model.config)
        ids = torch.zeros((1, 1), dtype=torch.long, device=self.model.device)
        with torch.inference_mode():
            self.model(input_ids=ids, use_cache=True, **self.signature.handing(cache))
        return cache.get_seq_length() == 1

    def last_logits(
        self,
        input_ids: torch.Tensor,
        batch: PromptBatch,
        length: int,
        *,
        cache: Any | None = None,
        use_cache: bool = False,
        all_logits: bool = False,
        last: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits (batch, vocabulary) of the last position, or of the submitted column that `last` (1,) names.

        `input_ids` (batch, submitted) are the newest of `length` tokens per row, padding included.
        """
        arguments: dict[str, Any] = {"use_cache": use_cache, **self.signature.handing(cache)}
        # Recurrent states have taken in what the mask said of their tokens; a longer mask would not fit the new ones.
        goes_on = self.signature.recurrent and cache is not None and cache.cache is not None
        if batch.mask is not None and not goes_on:
            # Past and new tokens; beside a static cache all that are to come, so that no step differs in shape.
            whole = getattr(cache, "is_compileable", False) and input_ids.shape[1] == 1
            mask = batch.mask if whole else batch.mask[:, :length]
            if self._slopes_by_mask and isinstance(cache, StaticCache):
                missing = int(cache.get_max_length()) - mask.shape[1]
                mask = torch.nn.functional.pad(mask, (0, missing), value=1)
            arguments["attention_mask"] = mask
        if self.signature.positions:
            arguments["position_ids"] = batch.positions[:, length - input_ids.shape[1] : length]
        keeps_one = self.signature.logits_to_keep and not all_logits
        if keeps_one:
            arguments["logits_to_keep"] = 1 if last is None else last
        output = self.model(input_ids=input_ids, **arguments)
        if self.signature.state is not None and cache is not None:
            cache.cache = getattr(output, self.signature.state)
            cache.hand(input_ids.shape[1])
        logits: torch.Tensor = output.logits
        return logits[:, -1] if keeps_one or last is None else logits.index_select(1, last)[:, 0]

    def logits_at(self, batch: PromptBatch, places: torch.Tensor) -> torch.Tensor:
        """Logits (batch, places, vocabulary) at columns `places` of a batch, of one pass over it without a cache.

        Raises `ModelUnavailable` for a model that gives the last position's logits alone.
        """
        arguments: dict[str, Any] = {"use_cache": False}
        if batch.mask is not None:
            arguments["attention_mask"] = batch.mask
        if self.signature.positions:
            arguments["position_ids"] = batch.positions
        if self.signature.logits_to_keep:
            arguments["logits_to_keep"] = places
        logits: torch.Tensor = self.model(input_ids=batch.input_ids, **arguments).logits
        if self.signature.logits_to_keep:
            return logits
        if logits.shape[1] != batch.input_ids.shape[1]:
            raise ModelUnavailable(
                f"{type(self.model).__name__} returns the logits of the last position alone, so that no single pass can"
                " score a text: return those of all positions"
            )
        return logits.index_select(1, places)


class OwnForward(Forward):
    """Calls a model of the user's own, which makes its caches itself and takes ids alone."""

    model: OwnCausalLM

    def require_cache(self) -> None:
        """Raise `ModelUnavailable` when the model offers no cache."""
        if not self.model.has_cache:
            raise ModelUnavailable(
                f"{self.model.where}: the model has no new_cache(batch_size), so mode=cached cannot run: add it (see"
                " kvbench/own_model.py), or use mode=nocache"
            )

    def fills_cache(self) -> bool:
        """True: transformers has no part in such a model."""
        return True

    def new_past(self, rows: int) -> OwnPast:
        """An empty cache of the model's for so many sequences."""
        return self.model.new_cache(rows)


def forward_of(model: Any) -> Forward:
    """The way to call a model."""
    return OwnForward(model) if isinstance(model, OwnCausalLM) else Forward(model)
