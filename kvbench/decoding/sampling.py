"""Choosing the next token, through transformers' own processors in the order that `generate` applies them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from kvbench.config.conditions import GREEDY_TEMPERATURE, GREEDY_TOP_P
from kvbench.config.schema import SamplingConfig


def is_greedy(sampling: SamplingConfig) -> bool:
    """Whether the likeliest token is taken instead of a draw."""
    return sampling.temperature < GREEDY_TEMPERATURE or sampling.top_p < GREEDY_TOP_P


def generate_arguments(sampling: SamplingConfig) -> dict[str, Any]:
    """The same settings as keyword arguments of `generate`; all are given, since an unset `top_k` means 50 there."""
    penalty = {"repetition_penalty": sampling.repetition_penalty}
    if is_greedy(sampling):
        return {"do_sample": False, **penalty}
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        **penalty,
    }


class Sampler:
    """Greedy where `is_greedy`, else a draw from the processed distribution with torch's global generator."""

    def __init__(self, sampling: SamplingConfig) -> None:
        self._draws = not is_greedy(sampling)
        self._processors: Any = LogitsProcessorList()
        if sampling.repetition_penalty != 1.0:
            self._processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        if self._draws:
            if sampling.temperature != 1.0:
                self._processors.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k:
                self._processors.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1.0:
                self._processors.append(TopPLogitsWarper(sampling.top_p))

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Token ids (batch,) from logits (batch, vocabulary)."""
        if not self._processors and not self._draws:
            return logits.argmax(dim=-1)
        # float32 as in `generate`: penalties and the softmax must not round to 16 bits.
        scores: torch.Tensor = self._processors(ids, logits.to(torch.float32, copy=True))
        if not self._draws:
            return scores.argmax(dim=-1)
        return torch.multinomial(scores.softmax(dim=-1), num_samples=1).squeeze(1)

    def settled(self, index: int) -> None:
        """None: every token depends on its scores."""


class Forced:
    """Follows a given path and keeps the logits it was shown: how two arms are compared on the same tokens.

    `path` is (batch, new tokens). `logits` collects one (batch, vocabulary) tensor for each of `steps`, the compared
    indices in ascending order (None: every one), in the model's type.
    """

    def __init__(self, path: torch.Tensor, steps: Sequence[int] | None = None) -> None:
        self.path = path
        self.steps = tuple(range(path.shape[1]) if steps is None else steps)
        self.logits: list[torch.Tensor] = []
        self._next = 0

    @property
    def length(self) -> int:
        """New tokens up to and with the last compared one: further than that nobody need follow."""
        return self.steps[-1] + 1

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - the protocol's shape
        """The path's next token ids (batch,)."""
        index = self._next
        self._next += 1
        if index in self.steps:
            # A copy: an engine that repeats a pass writes the next logits to the same place.
            self.logits.append(logits.detach().to("cpu", copy=True))
        return self.path[:, index]

    def settled(self, index: int) -> torch.Tensor | None:
        """The path's token ids (batch,) at an index that is not compared: they stand without any logits."""
        if index in self.steps:
            return None
        self._next = index + 1
        return self.path[:, index]
