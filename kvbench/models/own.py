"""A model of the user's own (`kvbench.own_model`) in the shape that loops and witnesses know: transformers'."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from kvbench.errors import ModelUnavailable

OWN_ATTENTION = "own"  # in the place where transformers names its implementation


class OwnTensors(SimpleNamespace):
    """The tensors of an own cache by where they were found in it; what their dimensions mean is not known."""


class OwnPast:
    """A cache that the model fills, with the tokens that it was handed counted beside it."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self._handed = 0

    def hand(self, tokens: int) -> None:
        """Note that a pass was given so many tokens more."""
        self._handed += tokens

    def get_seq_length(self) -> int:
        """Tokens handed in so far: what the loop goes by, whatever the cache says of itself."""
        return self._handed

    def stated_length(self) -> int | None:
        """What the cache itself says, by `length` or `len()`; None when it says nothing."""
        length = getattr(self.cache, "length", None)
        # `len` of a list or a dict of tensors counts layers, not tokens.
        if length is None and hasattr(self.cache, "__len__") and not isinstance(self.cache, (list, tuple, dict)):
            length = len(self.cache)
        return None if length is None or callable(length) else int(length)

    @property
    def layers(self) -> list[OwnTensors]:
        """Every tensor of the cache, as one layer."""
        offered = getattr(self.cache, "tensors", None)
        found: Iterable[Any] = (
            ((str(number), tensor) for number, tensor in enumerate(offered()))
            if callable(offered)
            else _found(self.cache, "", set())
        )
        return [OwnTensors(**dict(found))]


def _found(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors in attributes, lists, tuples and mappings with their paths; a model that is referred to is left out."""
    if isinstance(value, torch.Tensor):
        yield path, value
        return
    if id(value) in seen or isinstance(value, (torch.nn.Module, str, bytes, type)):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        inside: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        inside = enumerate(value)
    else:
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        named = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        inside = (named | getattr(value, "__dict__", {})).items()
    for name, item in inside:
        yield from _found(item, f"{path}.{name}" if path else str(name), seen)


@dataclass(frozen=True)
class OwnOutput:
    """What a pass returns: logits (batch, positions, vocabulary), and the past that was handed in."""

    logits: torch.Tensor
    cache: OwnPast | None


class OwnCausalLM(torch.nn.Module):
    """An own model behind the signature of a transformers causal language model. Made by `own_loading.adapted`."""

    def __init__(self, own: Any, where: str) -> None:
        super().__init__()
        self.own = own
        self.where = where  # what messages call the model, such as "model.target=nano:Nano"
        self.config = SimpleNamespace(_attn_implementation=OWN_ATTENTION)
        self.generation_config = SimpleNamespace(eos_token_id=None)
        self.dtype = torch.float32  # the type whose rounding shows in the logits

    def forward(
        self,
        input_ids: torch.Tensor,
        cache: OwnPast | None = None,
        use_cache: bool = False,  # noqa: ARG002 - transformers' argument; here a past says it
    ) -> OwnOutput:
        """One pass over `input_ids` (batch, submitted)."""
        if cache is None:
            return OwnOutput(self.own(input_ids), None)
        logits = self.own(input_ids, cache.cache)
        cache.hand(input_ids.shape[1])
        return OwnOutput(logits, cache)

    @property
    def has_cache(self) -> bool:
        """Whether the model offers caches."""
        return callable(getattr(self.own, "new_cache", None))

    def new_cache(self, rows: int) -> OwnPast:
        """An empty past for so many sequences."""
        return OwnPast(self.own.new_cache(rows))

    def set_attn_implementation(self, name: str) -> None:
        """Refused: how an own model attends is its own affair."""
        raise ModelUnavailable(f"{self.where} chooses its attention itself, it cannot be set to {name}")
