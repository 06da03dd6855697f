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
from kvbench.models.signature import CACHE_NAMES, ForwardSignature, handed_cache, library_cache, signature_of

Repeat = Callable[[dict[str, torch.Tensor]], torch.Tensor]  # a pass's tensors, by argument, to its logits


class Repeating(ABC):
    """Sends passes of a shape that comes again and again through what `_prepared` makes of them.

    These are all passes without a cache, and steps of one token beside a cache. A prefill has a length of its own and
    runs as it is; so does a pass that is asked for hidden states or attentions.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._repeats: dict[Hashable, Repeat] = {}
        self._signature: ForwardSignature | None = None
        self.prepared_s = 0.0
        self.repeated = 0
        self.replayed_bytes = 0

    @contextmanager
    def running(self, model: Any) -> Iterator[None]:
        """See `Engine.running`."""
        instead = model.__dict__.get("forward")  # accelerate puts one there
        # Asked once: reading a signature takes a good part of a small model's step.
        self._signature = self._signature or signature_of(model)
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

    def _handing(self, cache: Any | None) -> dict[str, Any]:
        """The argument by which the plain forward is handed a cache."""
        assert self._signature is not None
        return self._signature.handing(cache)

    def _forward(self, input_ids: torch.Tensor, **arguments: Any) -> Any:
        cache = handed_cache(arguments)
        observed = arguments.get("output_hidden_states") or arguments.get("output_attentions")
        if observed or (cache is not None and _is_prefill(input_ids, cache)):
            return self._plain(input_ids=input_ids, **arguments)
        tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
        tensors["input_ids"] = input_ids
        fixed = {name: value for name, value in arguments.items() if name not in (*tensors, *CACHE_NAMES)}
        shapes = tuple(sorted((name, tuple(tensor.shape)) for name, tensor in tensors.items()))
        key = (shapes, None if cache is None else id(cache))
        if key not in self._repeats:
            began = time.perf_counter()
            self._repeats[key] = self._prepared(tensors, cache, fixed)
            self._count_preparation(began)
        logits = self._repeats[key](tensors)
        self.repeated += 1
        return CausalLMOutputWithPast(logits=logits, **library_cache(cache))

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
