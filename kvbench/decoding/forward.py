"""One forward pass of a causal language model, whatever its signature."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from kvbench.decoding.protocol import PromptBatch
from kvbench.errors import ModelUnavailable
from kvbench.models.own import OwnCausalLM, OwnPast


class Forward:
    """Calls a model with the arguments that its `forward` knows.

    `logits_to_keep=1` computes the last position's logits only; the eight or so architectures without it compute all
    of them and are sliced, which `full_logits` tells. Explicit positions are passed wherever they are accepted:
    some architectures miscount from a cache alone.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        known = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in known
        self._takes_cache = "past_key_values" in known
        self._takes_logits_to_keep = "logits_to_keep" in known

    @property
    def full_logits(self) -> bool:
        """Whether logits of all positions are computed although one is wanted."""
        return not self._takes_logits_to_keep

    def require_cache(self) -> None:
        """Raise `ModelUnavailable` when the model cannot be handed a cache object."""
        if not self._takes_cache:
            raise ModelUnavailable(
                f"{type(self.model).__name__} takes no past_key_values, so mode=cached cannot run: use mode=nocache"
            )

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
        arguments: dict[str, Any] = {"use_cache": use_cache}
        if batch.mask is not None:
            # Past and new tokens; beside a static cache all that are to come, so that no step differs in shape.
            whole = getattr(cache, "is_compileable", False) and input_ids.shape[1] == 1
            arguments["attention_mask"] = batch.mask if whole else batch.mask[:, :length]
        if self._takes_positions:
            arguments["position_ids"] = batch.positions[:, length - input_ids.shape[1] : length]
        if cache is not None:
            arguments["past_key_values"] = cache
        keeps_one = self._takes_logits_to_keep and not all_logits
        if keeps_one:
            arguments["logits_to_keep"] = 1 if last is None else last
        logits: torch.Tensor = self.model(input_ids=input_ids, **arguments).logits
        return logits[:, -1] if keeps_one or last is None else logits.index_select(1, last)[:, 0]


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

    def new_cache(self, rows: int) -> OwnPast:
        """An empty cache for so many sequences."""
        return self.model.new_cache(rows)


def forward_of(model: Any) -> Forward:
    """The way to call a model."""
    return OwnForward(model) if isinstance(model, OwnCausalLM) else Forward(model)
