"""What an engine is: it takes the place of a model's forward. The plain one, and those that prepare each shape once."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from transformers.modeling_outputs import CausalLMOutputWithPast

from kvbench.decoding.protocol import Pass
from kvbench.decoding.settings import causal_without_mask
from kvbench.models.signature import CACHE_NAMES, ForwardSignature, handed_cache, library_cache, signature_of

# What an engine is: something that takes the place of a model's forward while a run lasts.


class Engine(Protocol):
    """Executes passes of a model.

    `prepared_s` are the seconds it has spent so far on compiling and capturing, `repeated` the passes that went through
    what it prepared. `replayed_bytes` is the most that one of those takes on a GPU: a replay writes to memory that was
    set aside at the capture, and allocates none.
    """

    prepared_s: float
    repeated: int
    replayed_bytes: int

    def running(self, model: Any) -> AbstractContextManager[None]:
        """A context in which calls of the model go through the engine; hooks on the model see them as ever."""

    def release(self) -> None:
        """Give up what it holds on the device; it is made anew when it is needed."""


# Plain PyTorch.


class Eager:
    """The model as it is; see `Engine`."""

    prepared_s = 0.0
    repeated = 0
    replayed_bytes = 0

    def running(self, model: Any) -> AbstractContextManager[None]:  # noqa: ARG002 - nothing is put in its place
        """A context that changes nothing."""
        return nullcontext()

    def release(self) -> None:
        """Does nothing: it holds nothing."""


PLAIN = Eager()


# Passes made for practice beside a real cache, which must not show them afterwards.


WRITTEN_IN_PLACE = ("keys", "values")  # beyond the last token, where the real pass writes before it reads


class CacheState:
    """What a static cache keeps besides keys and values: its lengths, and the states of other kinds of layers."""

    def __init__(self, cache: Any | None) -> None:
        self._tensors = [(tensor, tensor.clone()) for tensor in _states(cache)]
        self._plain = [
            (layer, name, value) for layer in _layers(cache) for name, value in vars(layer).items() if _is_plain(value)
        ]

    def restore(self) -> None:
        """Put everything back, in place: a captured pass reads it from where it was."""
        for tensor, before in self._tensors:
            tensor.copy_(before)
        for layer, name, value in self._plain:
            setattr(layer, name, dict(value) if isinstance(value, dict) else value)


def _layers(cache: Any | None) -> list[Any]:
    return [] if cache is None else list(cache.layers)


def _states(cache: Any | None) -> Iterator[torch.Tensor]:
    for layer in _layers(cache):
        for name, value in vars(layer).items():
            if name not in WRITTEN_IN_PLACE:
                values = value.values() if isinstance(value, dict) else (value,)
                yield from (each for each in values if isinstance(each, torch.Tensor))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(isinstance(each, (bool, int)) for each in value.values())
    return isinstance(value, (bool, int))


# Engines that prepare a pass of one shape once, by compiling or capturing it, and then repeat it.


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
        """A context in which `model.forward` repeats what was prepared for a pass of the same shape."""
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
        """Gives up what was prepared for every shape."""
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
