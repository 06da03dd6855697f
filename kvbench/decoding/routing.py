"""Mixtures of experts: which experts a path's tokens go to, noted once and prescribed to everything that is compared.

A router takes the largest of its scores. At a near-tie rounding decides, another expert computes another value, and the
logits part by far more than rounding. So all that is compared computes with the experts that the reference chose, and
where an arm's own router would have chosen others is told.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kvbench.decoding.protocol import PromptBatch
from kvbench.models.signature import handed_cache

_LAYER = re.compile(r"(?:layers|h|blocks|block|decoder)\.(\d+)$")


@dataclass
class Flips:
    """Where routers would have chosen other experts than the prescribed ones, at the newest token of each pass."""

    count: int = 0
    seen: int = 0  # choices looked at
    first: tuple[int, int, int] | None = None  # new token, layer, row

    def note(self, step: int, layer: int, differs: torch.Tensor) -> None:
        """`differs` (rows,) tells of one layer whose token goes elsewhere."""
        self.seen += len(differs)
        rows = differs.nonzero().flatten().tolist()
        self.count += len(rows)
        if rows and (self.first is None or step < self.first[0]):
            self.first = (step, layer, rows[0])


@dataclass
class Routes:
    """The experts chosen on one path, by choice in the order in which a pass makes them.

    `model` is the one whose passes are followed, `experts` how many there are to choose from; with none nothing is ever
    noted. A choice is a `topk` among at most so many scores for each token, wherever the model makes it.
    """

    model: Any
    experts: int
    chosen: list[torch.Tensor] = field(default_factory=list)  # (rows, columns, …) indices
    columns: int = 0  # of the prompt

    @contextmanager
    def noted(self, batch: PromptBatch) -> Iterator[None]:
        """A context whose last pass over the whole path says where its tokens go."""
        self.columns = batch.longest
        with self._following(_Noting(self, batch, Flips())):
            yield

    @contextmanager
    def prescribed(self, batch: PromptBatch) -> Iterator[Flips]:
        """A context in which tokens go where they were noted to go; tells where their router would have them."""
        flips = Flips()
        if not self.chosen:
            yield flips
            return
        with self._following(_Prescribing(self, batch, flips)):
            yield flips

    @contextmanager
    def _following(self, mode: _Following) -> Iterator[None]:
        if not self.experts:
            yield
            return
        hooks = mode.hooks(self.model)
        try:
            with mode:
                yield
        finally:
            for hook in hooks:
                hook.remove()


class _Following(TorchDispatchMode):
    """Knows which tokens the current pass has, and hands every choice among experts to `_choice`."""

    def __init__(self, routes: Routes, batch: PromptBatch, flips: Flips) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.routes, self.flips = routes, flips
        self.shift = batch.longest - routes.columns  # columns of padding before what was noted
        self.rows = self.past = self.count = self.number = self.layer = self.newest = 0
        self.inside = False

    def hooks(self, model: Any) -> list[Any]:
        """Hooks on a model that tell of its passes and layers."""
        layers = [(int(found[1]), part) for name, part in model.named_modules() if (found := _LAYER.search(name))]
        return [
            model.register_forward_pre_hook(self._begin, with_kwargs=True),
            model.register_forward_hook(self._end),
            *(part.register_forward_pre_hook(self._at(number)) for number, part in layers),
        ]

    def _begin(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - torch's shape
        ids, cache = kwargs["input_ids"], handed_cache(kwargs)
        self.rows, self.count = ids.shape
        self.past = 0 if cache is None else int(cache.get_seq_length())
        last = kwargs.get("logits_to_keep")  # a pass that is padded at its end names its last column
        self.newest = int(last) if isinstance(last, torch.Tensor) else self.count - 1
        self.number, self.inside = 0, True
        self._clear()

    def _end(self, *_: Any) -> None:
        self.inside = False

    def _at(self, number: int) -> Any:
        def note(*_: Any) -> None:
            self.layer = number

        return note

    def _clear(self) -> None:
        """A new pass begins."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every operator."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.inside or func.overloadpacket.__name__ != "topk":
            return result
        scores, indices = args[0], result[1]
        by_token = indices.shape[0] == self.rows * self.count or indices.shape[:2] == (self.rows, self.count)
        if (
            not by_token
            or scores.shape[-1] > self.routes.experts
            or (len(args) > 2 and args[2] not in (-1, scores.ndim - 1))
        ):
            return result
        self.number += 1
        return self._choice(self.number - 1, scores, result)

    @abstractmethod
    def _choice(self, number: int, scores: torch.Tensor, result: Any) -> Any:
        """What takes the place of `result`, the values and indices of choice `number` among `scores`."""

    def _of_tokens(self, indices: torch.Tensor) -> torch.Tensor:
        """Indices as (rows, columns, …)."""
        tail = indices.shape[1:] if indices.shape[0] == self.rows * self.count else indices.shape[2:]
        return indices.reshape(self.rows, self.count, *tail)


class _Noting(_Following):
    def _clear(self) -> None:
        self.routes.chosen = []

    def _choice(self, number: int, scores: torch.Tensor, result: Any) -> Any:  # noqa: ARG002 - the shape of both
        self.routes.chosen.append(self._of_tokens(result[1]).clone())
        return result


class _Prescribing(_Following):
    def _choice(self, number: int, scores: torch.Tensor, result: Any) -> Any:
        if number >= len(self.routes.chosen):
            return result
        noted = self.routes.chosen[number].to(scores.device)
        noted = noted.repeat(self.rows // noted.shape[0], *(1,) * (noted.ndim - 1))
        if self.shift:
            noted = torch.cat([noted[:, :1].expand(-1, self.shift, *noted.shape[2:]), noted], dim=1)
        own = self._of_tokens(result[1])
        missing = self.past + self.count - noted.shape[1]
        if missing > 0:  # padding at the end, which goes anywhere
            noted = torch.cat([noted, noted[:, -1:].expand(-1, missing, *noted.shape[2:])], dim=1)
        wanted = noted[:, self.past : self.past + self.count]
        if wanted.shape != own.shape:
            return result
        at = self.newest
        differs = (own[:, at].sort(-1).values != wanted[:, at].sort(-1).values).flatten(1).any(1)
        self.flips.note(self.past + at + 1 - self.shift - self.routes.columns, self.layer, differs)
        indices = wanted.reshape(result[1].shape)
        return scores.gather(-1, indices), indices
