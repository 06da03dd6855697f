"""What a call of any module hands to it and gets back: ids, cache, mask and logits, whatever their names and places."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from kvbench.models.signature import CACHE_NAMES, STATE_NAMES

IDS = ("decoder_input_ids", "input_ids", "ids", "idx", "tokens", "x", "decoder_inputs_embeds", "inputs_embeds")
IDS_TYPES = (torch.int64, torch.int32)
EMBEDDED = ("decoder_inputs_embeds", "inputs_embeds")
# What people call the cache of a model of their own.
OWN_CACHES = ("past", "pasts", "past_kv", "past_kvs", "kv_cache", "kv_caches", "kvcache", "caches", "layer_past")
CACHES = (*CACHE_NAMES, *STATE_NAMES, *OWN_CACHES)
LOGITS = ("logits", "lm_logits", "prediction_logits")


class Handed(NamedTuple):
    """The parts of a call that say what is submitted."""

    shape: Sequence[int]  # (batch, submitted), or (submitted,)
    ids: torch.Tensor | None  # None for embeddings
    cache: Any
    cache_argument: str | None  # as it was written, also where None was handed in
    mask: Any
    labels: bool


Place = int | str  # of an argument: its index, or its keyword


class _Places(NamedTuple):
    """Where calls of one form (so many arguments, these keywords) have what, the likeliest first."""

    tokens: tuple[tuple[Place, bool], ...]  # and whether they are embeddings
    caches: tuple[tuple[Place, str], ...]
    written: str | None  # a cache's name among the keywords
    mask: Place | None
    labels: Place | None


class Arguments:
    """Reads the calls of one module. Which place has what is looked up once per form of call: this is in a loop."""

    def __init__(self, module: Any) -> None:
        called = module.forward if isinstance(module, torch.nn.Module) else module
        try:
            self._names = tuple(inspect.signature(called).parameters)
        except (TypeError, ValueError):  # a callable of C
            self._names = ()
        self.cache_argument = next((name for name in CACHES if name in self._names), None)
        self._known: dict[tuple[Place, ...], _Places] = {}

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handed | None:
        """None for a call without anything that could be tokens."""
        form: tuple[Place, ...] = (len(args), *kwargs)
        known = self._known.get(form)
        if known is None:
            known = self._known[form] = self._places(args, kwargs)
        ids, embedded = None, False
        for place, embedded in known.tokens:
            ids = args[place] if type(place) is int else kwargs[place]  # type: ignore[index]
            if isinstance(ids, torch.Tensor) and (embedded or ids.dtype in IDS_TYPES):
                break
            ids = None
        if ids is None:  # the names say nothing: a wrapper's, or somebody's own
            ids, embedded = next((each for each in (*kwargs.values(), *args) if _are_ids(each)), None), False
            if ids is None:
                return None
        cache, argument = None, known.written
        for place, name in known.caches:
            cache = args[place] if type(place) is int else kwargs[place]  # type: ignore[index]
            if cache is not None:
                argument = name
                break
        shape = ids.shape[:-1] if embedded else ids.shape
        mask, labels = (
            None if place is None else args[place] if type(place) is int else kwargs[place]  # type: ignore[index]
            for place in (known.mask, known.labels)
        )
        return Handed(shape, None if embedded else ids, cache, argument, mask, labels is not None)

    def _places(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Places:
        every: dict[str, Place] = {name: index for index, name in enumerate(self._names[: len(args)])}
        every |= {name: name for name in kwargs}
        return _Places(
            tuple((every[name], name in EMBEDDED) for name in IDS if name in every),
            tuple((every[name], name) for name in CACHES if name in every),
            next((name for name in CACHES if name in kwargs), None),
            every.get("attention_mask"),
            every.get("labels"),
        )


def _are_ids(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in IDS_TYPES


def logits_of(output: Any) -> torch.Tensor | None:
    """The logits among what a pass returned: (batch, positions, vocabulary), or (batch, vocabulary) of the last."""
    found = getattr(output, "logits", None)
    if isinstance(found, torch.Tensor):
        return found
    if isinstance(output, torch.Tensor):
        return output if _are_logits(output) else None
    if isinstance(output, Mapping):
        return next((output[name] for name in LOGITS if _are_logits(output.get(name))), None)
    parts = output if isinstance(output, (tuple, list)) else ()
    return next((part for part in parts if _are_logits(part)), None)


def _are_logits(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim >= 2 and value.is_floating_point()


def cache_of(output: Any) -> Any | None:
    """The cache among what a pass returned."""
    fields = getattr(output, "__dict__", None)
    if fields is None and isinstance(output, dict):
        fields = output
    if fields is not None:
        for name in _EVERY_CACHE.intersection(fields):
            if fields[name] is not None:
                return fields[name]
    if type(output) is not tuple:
        return None
    behind = [part for part in output[1:] if not isinstance(part, (torch.Tensor, str, bool, int, float, type(None)))]
    return behind[0] if behind else None


_EVERY_CACHE = frozenset(CACHES)
