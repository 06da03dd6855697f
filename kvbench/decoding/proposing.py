"""transformers' `generate` with proposed tokens, of a draft model or out of the text, which each pass checks.

A pass submits the newest token and the proposed ones, takes those that the model would have written itself and one more
token of its own, and has the others taken out of the cache (Leviathan et al., arXiv:2211.17192; for greedy decoding,
tokens are compared).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging as transformers_logging

from kvbench.decoding.generate import Generate
from kvbench.decoding.protocol import Decoded, Observer, PromptBatch
from kvbench.decoding.sampling import Forced
from kvbench.decoding.settings import SessionSettings
from kvbench.errors import ModelUnavailable, reason_of

# transformers' words for a model or a cache that cannot take back a token.
NO_PROPOSALS = ("crop", "stateful", "assisted", "Assisted")


@dataclass(frozen=True)
class Drafting:
    """A draft model, its attention and seed, and how much it proposes, as `generate` names it."""

    model: Any
    setting: SessionSettings
    arguments: dict[str, Any]


class Proposing(Generate):
    """`generate` that checks what `drafting` proposes, or what it looks up itself by `lookup`, its own arguments.

    One sequence at a time. The observer is told once for each pass, of its newest token.
    """

    def __init__(
        self,
        model: Any,
        arguments: dict[str, Any],
        setting: SessionSettings,
        pad_id: int,
        *,
        cache: str,
        drafting: Drafting | None = None,
        lookup: dict[str, Any] | None = None,
        forced: Forced | None = None,
    ) -> None:
        super().__init__(model, arguments, setting, pad_id, use_cache=True, cache=cache)
        if forced is not None:
            self._arguments = {"do_sample": False}
        self._drafting = drafting
        self._proposing = lookup or {}
        self._forced = forced

    def prepare(self, block: int | None) -> None:
        """Sets the attention of both models, what the draft proposes, and the seed."""
        if self._drafting is not None:
            draft = self._drafting.model
            draft.to(self._model.device)
            self._drafting.setting.apply(draft)
            # Anew for each run: what a draft has learnt of one generation must not count in the next.
            draft.generation_config = GenerationConfig(**self._drafting.arguments)
        super().prepare(block)

    def run(self, batch: PromptBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int] = ()) -> Decoded:
        """One call of `generate`; `made` has the new tokens of each pass."""
        with _without_warnings():
            if self._forced is None:
                return super().run(batch, new_tokens, observer, stop_ids)
            forcing = _ForcingPasses(self._forced, batch.longest)
            self._processors = LogitsProcessorList([forcing])
            draft = None if self._drafting is None else self._drafting.model
            with forcing.watching(self._model, draft):
                decoded = super().run(batch, new_tokens, forcing.through(observer), stop_ids)
            self._forced.logits = [forcing.kept[step] for step in self._forced.steps]
            return decoded

    def _further(self, observer: Observer, prompt: int) -> dict[str, Any]:  # noqa: ARG002 - a stream has new tokens alone
        self._stream = _Telling(observer)
        draft = {} if self._drafting is None else {"assistant_model": self._drafting.model}
        return {"streamer": self._stream, **draft}

    def _explain(self, error: Exception) -> None:
        if any(word in str(error) for word in NO_PROPOSALS):
            raise ModelUnavailable(
                f"generate cannot check proposed tokens with {type(self._model).__name__} ({reason_of(error)}): leave"
                " modes assisted and prompt_lookup out"
            ) from error

    def _decoded(self, new_ids: torch.Tensor, cache: Any | None) -> Decoded:
        return Decoded(new_ids, (), cache, made=tuple(self._stream.made))


@contextmanager
def _without_warnings() -> Iterator[None]:
    """`generate` warns of how it calls the draft itself."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


class _Telling(BaseStreamer):
    """Tells the observer of each pass. Stopping criteria would not do: transformers 5.17 asks them of proposals too."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._begun = False
        self._count = 0
        self.made: list[int] = []

    def put(self, value: torch.Tensor) -> None:
        """The prompt, then the new tokens of each pass, (1, tokens)."""
        if not self._begun:
            self._begun = True
            return
        self.made.append(value.shape[-1])
        self._count += value.shape[-1]
        self._observer.on_token(self._count - 1, value[..., -1].reshape(-1))

    def end(self) -> None:
        """Nothing is left to tell."""


class _ForcingPasses(LogitsProcessor):
    """Leaves the forced path's token possible wherever the model checks, and keeps the logits of the path's own steps.

    The draft proposes as it does in a free run, so that passes, rejections and what is taken out of the cache are those
    of one. Logits behind a rejected token are of another text: the pass that comes there again replaces them.
    """

    def __init__(self, forced: Forced, prompt: int) -> None:
        self._forced = forced
        self._prompt = prompt
        self._checking = False  # between a pass of the model and what is made of it
        self.kept: dict[int, torch.Tensor] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        index = input_ids.shape[1] - self._prompt
        path = self._forced.path
        if not self._checking or index >= path.shape[1]:  # of the draft, of a look-up, or beyond the end
            return scores
        if index in self._forced.steps:
            self.kept[index] = scores.detach().to("cpu", copy=True)
        return torch.full_like(scores, -torch.inf).scatter(1, path[:, index : index + 1], 0.0)

    @contextmanager
    def watching(self, model: Any, draft: Any | None) -> Iterator[None]:
        """A context in which it is known whose logits are shown."""

        def checks(*_: Any) -> None:
            self._checking = True

        def proposes(*_: Any) -> None:
            self._checking = False

        hooks = [model.register_forward_hook(checks)]
        if draft is not None:
            hooks.append(draft.register_forward_pre_hook(proposes))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def through(self, observer: Observer) -> Observer:
        """The observer of a run, with whose every call a pass is over."""
        return _EndingPasses(self, observer)

    def end_pass(self) -> None:
        """What comes next is no logits of the model."""
        self._checking = False


@dataclass(frozen=True)
class _EndingPasses:
    forcing: _ForcingPasses
    observer: Observer

    def on_token(self, index: int, token_ids: Any) -> None:
        self.forcing.end_pass()
        self.observer.on_token(index, token_ids)
