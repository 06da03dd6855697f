"""What a call of any module hands to it and gets back: ids, cache, mask and logits, whatever their names and places."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from kvbench.models.signature import CACHE_NAMES, STATE_NAMES

IDS = ("decoder_input_ids", "input_ids", "ids", "idx", "tokens", "x", "decoder_inputs_embeds", "inputs_embeds")
EMBEDDED = ("decoder_inputs_embeds", "inputs_embeds")
# What people call the cache of a model of their own.
OWN_CACHES = ("past", "pasts", "past_kv", "past_kvs", "kv_cache", "kv_caches", "kvcache", "caches", "layer_past")
CACHES = (*CACHE_NAMES, *STATE_NAMES, *OWN_CACHES)
LOGITS = ("logits", "lm_logits", "prediction_logits")


@dataclass(slots=True)
class Handed:
    """The parts of a call that say what is submitted."""

    rows: int
    submitted: int
    ids: torch.Tensor | None  # (batch, submitted); None for embeddings
    cache: Any
    cache_argument: str | None
    mask_length: int | None
    labels: bool
    use_cache: Any


class Arguments:
    """Reads the calls of one module, whose signature is looked at once."""

    def __init__(self, module: Any) -> None:
        called = module.forward if isinstance(module, torch.nn.Module) else module
        try:
            self._names = tuple(inspect.signature(called).parameters)
        except (TypeError, ValueError):  # a callable of C
            self._names = ()
        self.cache_argument = next((name for name in CACHES if name in self._names), None)
        self.keeps_logits = "logits_to_keep" in self._names

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handed | None:
        """None for a call without anything that could be tokens."""
        named = {**dict(zip(self._names, args, strict=False)), **kwargs} if args else kwargs
        name, ids = _tokens(named)
        if ids is None and args:  # the names of a wrapper say nothing
            name, ids = "", next((each for each in args if _are_ids(each)), None)
        if ids is None:
            return None
        cache_argument = next((each for each in CACHES if named.get(each) is not None), None)
        cache = None if cache_argument is None else named[cache_argument]
        written = cache_argument or next((each for each in CACHES if each in kwargs), None)
        embedded = name in EMBEDDED
        shape = ids.shape[:-1] if embedded else ids.shape
        mask = named.get("attention_mask")
        return Handed(
            rows=shape[0] if len(shape) > 1 else 1,
            submitted=shape[-1] if len(shape) else 1,
            ids=None if embedded else ids,
            cache=cache,
            cache_argument=written,
            mask_length=mask.shape[1] if isinstance(mask, torch.Tensor) and mask.ndim == 2 else None,
            labels=named.get("labels") is not None,
            use_cache=named.get("use_cache"),
        )


def _tokens(named: Mapping[str, Any]) -> tuple[str, torch.Tensor | None]:
    for name in IDS:
        value = named.get(name)
        if isinstance(value, torch.Tensor) and (name in EMBEDDED or _are_ids(value)):
            return name, value
    return "", next((value for value in named.values() if _are_ids(value)), None)


def _are_ids(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.int64, torch.int32)


def logits_of(output: Any) -> torch.Tensor | None:
    """The logits among what a pass returned: (batch, positions, vocabulary), or (batch, vocabulary) of the last."""
    if isinstance(output, torch.Tensor):
        return output if _are_logits(output) else None
    for name in LOGITS:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if _are_logits(found):
            return found
    parts = output if isinstance(output, (tuple, list)) else ()
    return next((part for part in parts if _are_logits(part)), None)


def _are_logits(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim >= 2 and value.is_floating_point()


def cache_of(output: Any) -> Any | None:
    """The cache among what a pass returned."""
    for name in CACHES:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, "__dict__", {}).get(name)
        if found is not None:
            return found
    if not isinstance(output, tuple):
        return None
    behind = [part for part in output[1:] if not isinstance(part, (torch.Tensor, str, bool, int, float, type(None)))]
    return behind[0] if behind else None
