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


class _Named(NamedTuple):
    """Where calls with the same keywords have what."""

    tokens: tuple[str, ...]
    caches: tuple[str, ...]
    written: str | None  # a cache's name among the keywords


class Arguments:
    """Reads the calls of one module. What names mean is looked up once for each set of keywords: this is in a loop."""

    def __init__(self, module: Any) -> None:
        called = module.forward if isinstance(module, torch.nn.Module) else module
        try:
            self._names = tuple(inspect.signature(called).parameters)
        except (TypeError, ValueError):  # a callable of C
            self._names = ()
        self.cache_argument = next((name for name in CACHES if name in self._names), None)
        self._known: dict[tuple[str, ...], _Named] = {}

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handed | None:
        """None for a call without anything that could be tokens."""
        named = {**dict(zip(self._names, args, strict=False)), **kwargs} if args else kwargs
        keywords = tuple(named)
        known = self._known.get(keywords)
        if known is None:
            known = self._known[keywords] = _named(keywords, kwargs)
        ids, embedded = None, False
        for name in known.tokens:
            ids = named[name]
            if isinstance(ids, torch.Tensor) and (ids.dtype in IDS_TYPES or name in EMBEDDED):
                embedded = name in EMBEDDED
                break
            ids = None
        if ids is None:  # the names say nothing: a wrapper's, or somebody's own
            ids = next((each for each in (*named.values(), *args) if _are_ids(each)), None)
            if ids is None:
                return None
        cache, argument = None, known.written
        for name in known.caches:
            cache = named[name]
            if cache is not None:
                argument = name
                break
        shape = ids.shape[:-1] if embedded else ids.shape
        labels = named.get("labels") is not None
        return Handed(shape, None if embedded else ids, cache, argument, named.get("attention_mask"), labels)


def _named(keywords: tuple[str, ...], kwargs: Mapping[str, Any]) -> _Named:
    return _Named(
        tuple(name for name in IDS if name in keywords),
        tuple(name for name in CACHES if name in keywords),
        next((name for name in CACHES if name in kwargs), None),
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
