"""Engines that prepare a pass of one shape once, by compiling or capturing it, and then repeat it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_outputs import CausalLMOutputWithPast

from kvbench.decoding.masks import causal_without_mask
from kvbench.decoding.protocol import Pass

Repeat = Callable[[dict[str, torch.Tensor]], torch.Tensor]  # a pass's tensors, by argument, to its logits


class Repeating(ABC):
    """Sends passes of a shape that comes again and again through what `_prepared` makes of them.

    These are all passes without a cache, and steps of one token beside a cache. A prefill has a length of its own and
    runs as it is; so does a pass that is asked for hidden states or attentions.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._repeats: dict[Hashable, Repeat] = {}
        self.prepared_s = 0.0
        self.repeated = 0
        self.replayed_bytes = 0

    @contextmanager
    def running(self, model: Any) -> Iterator[None]:
        """See `Engine.running`."""
        instead = model.__dict__.get("forward")  # accelerate puts one there
        self._plain = model.forward
        self._model = model
        model.forward = self._forward
        try:
            with causal_without_mask():
                yield
        finally:
            if instead is None:
                del model.forward
            else:
                model.forward = instead

    def release(self) -> None:
        """See `Engine.release`."""
        self._repeats.clear()

    def _forward(self, input_ids: torch.Tensor, past_key_values: Any | None = None, **arguments: Any) -> Any:
        observed = arguments.get("output_hidden_states") or arguments.get("output_attentions")
        if observed or (past_key_values is not None and _is_prefill(input_ids, past_key_values)):
            return self._plain(input_ids=input_ids, past_key_values=past_key_values, **arguments)
        tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
        tensors["input_ids"] = input_ids
        fixed = {name: value for name, value in arguments.items() if name not in tensors}
        shapes = tuple(sorted((name, tuple(tensor.shape)) for name, tensor in tensors.items()))
        key = (shapes, None if past_key_values is None else id(past_key_values))
        if key not in self._repeats:
            began = time.perf_counter()
            self._repeats[key] = self._prepared(tensors, past_key_values, fixed)
            self._count_preparation(began)
        logits = self._repeats[key](tensors)
        self.repeated += 1
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    def _count_preparation(self, began: float) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.prepared_s += time.perf_counter() - began

    @contextmanager
    def _noting_memory(self) -> Iterator[None]:
        """Around a pass that is made as its replays will be."""
        if self._device.type != "cuda":
            yield
            return
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        yield
        self.replayed_bytes = max(self.replayed_bytes, torch.cuda.max_memory_allocated(self._device) - before)

    @abstractmethod
    def _prepared(self, tensors: dict[str, torch.Tensor], cache: Any | None, fixed: dict[str, Any]) -> Repeat:
        """What repeats a pass of these shapes. The cache must be as it was when this returns, the pass not made."""


def is_repeatable(made: Pass) -> bool:
    """Whether such a pass goes through what was prepared: one without a past, or a step of one token beside it."""
    return made.past_before is None or (made.submitted == 1 and made.past_before > 0)


def _is_prefill(input_ids: torch.Tensor, cache: Any) -> bool:
    """More than one token, or the one of a prompt of one: a cache takes its memory at its first update."""
    return input_ids.shape[1] > 1 or not any(map(_has_begun, cache.layers))  # some layers never hold anything


def _has_begun(layer: Any) -> bool:
    """Whether a layer holds anything; transformers' `Cache.is_initialized` leaves out layers with other states."""
    begun = bool(getattr(layer, "is_initialized", True))
    return begun and any(getattr(layer, "has_previous_state", {None: begun}).values())
