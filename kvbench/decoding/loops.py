"""The hand-written loops: one shape, three ways of making the next logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from kvbench.decoding.forward import Forward
from kvbench.decoding.protocol import Chooser, Decoded, Observer, Pass, PromptBatch
from kvbench.decoding.setting import TorchSetting


class Loop(ABC):
    """Prefill and decode steps around `_next_logits`, which is all that the modes differ in.

    Tokens stay on the device. Without stop ids nothing here waits for it; with them the host reads one flag a step.
    """

    def __init__(self, forward: Forward, chooser: Chooser, setting: TorchSetting, pad_id: int) -> None:
        self._forward = forward
        self._chooser = chooser
        self._setting = setting
        self._pad_id = pad_id

    def prepare(self, block: int | None) -> None:  # noqa: ARG002 - a real model does not drift by script
        """See `Decoder.prepare`."""
        self._setting.apply(self._forward.model)

    def run(self, batch: PromptBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int] = ()) -> Decoded:
        """See `Decoder.run`."""
        with torch.inference_mode(), self._setting.pinned_backend():
            return self._decode(batch, new_tokens, observer, stop_ids)

    def _decode(self, batch: PromptBatch, new_tokens: int, observer: Observer, stop_ids: Sequence[int]) -> Decoded:
        rows, prompt = batch.input_ids.shape
        ids = batch.input_ids.new_empty((rows, prompt + new_tokens))
        ids[:, :prompt] = batch.input_ids
        cache = self._new_cache()
        ending = _Ending(batch.input_ids.new_tensor(stop_ids), rows, self._pad_id) if stop_ids else None
        passes: list[Pass] = []
        length = prompt
        for index in range(new_tokens):
            logits, made = self._next_logits(ids, batch, length, cache)
            passes.append(made)
            token = self._chooser.choose(ids[:, :length], logits)
            if ending is not None:
                token = ending.apply(token)
            ids[:, length] = token
            length += 1
            observer.on_token(index, token)
            if ending is not None and ending.reached():
                break
        return Decoded(ids[:, prompt:length], passes, cache)

    def _new_cache(self) -> Any | None:
        return None

    @abstractmethod
    def _next_logits(
        self, ids: torch.Tensor, batch: PromptBatch, length: int, cache: Any | None
    ) -> tuple[torch.Tensor, Pass]:
        """Logits (batch, vocabulary) of the last of `length` tokens, and what was submitted for them."""


class NoCacheLoop(Loop):
    """Submits all tokens at every step, keeps nothing, and asks for the last position's logits only."""

    def _next_logits(
        self,
        ids: torch.Tensor,
        batch: PromptBatch,
        length: int,
        cache: Any | None,  # noqa: ARG002 - this mode has none
    ) -> tuple[torch.Tensor, Pass]:
        submitted = ids[:, :length]
        return self._forward.last_logits(submitted, batch, length), Pass(submitted.shape[1], None, None)


class NaiveLoop(Loop):
    """The same as people first write it: logits for every position, and a cache built and dropped at each step."""

    def _next_logits(
        self,
        ids: torch.Tensor,
        batch: PromptBatch,
        length: int,
        cache: Any | None,  # noqa: ARG002 - this mode has none
    ) -> tuple[torch.Tensor, Pass]:
        submitted = ids[:, :length]
        logits = self._forward.last_logits(submitted, batch, length, use_cache=True, all_logits=True)
        return logits, Pass(submitted.shape[1], None, None)


class CachedLoop(Loop):
    """Submits the prompt once, then one token a step with a `DynamicCache`."""

    def __init__(self, forward: Forward, chooser: Chooser, setting: TorchSetting, pad_id: int) -> None:
        forward.require_cache()
        super().__init__(forward, chooser, setting, pad_id)

    def _new_cache(self) -> DynamicCache:
        # Without the config sliding-window layers would be stored at full length.
        return DynamicCache(config=self._forward.model.config)

    def _next_logits(
        self, ids: torch.Tensor, batch: PromptBatch, length: int, cache: Any | None
    ) -> tuple[torch.Tensor, Pass]:
        assert cache is not None
        before = int(cache.get_seq_length())
        newest = ids[:, before:length]
        logits = self._forward.last_logits(newest, batch, length, cache=cache, use_cache=True)
        return logits, Pass(newest.shape[1], before, int(cache.get_seq_length()))


class _Ending:
    """Which sequences have met a stop id; their later tokens become padding, as in `generate`."""

    def __init__(self, stop_ids: torch.Tensor, rows: int, pad_id: int) -> None:
        self._stop_ids = stop_ids
        self._pad_id = pad_id
        self._unfinished = torch.ones(rows, dtype=torch.bool, device=stop_ids.device)

    def apply(self, token: torch.Tensor) -> torch.Tensor:
        token = token.masked_fill(~self._unfinished, self._pad_id)
        self._unfinished &= ~torch.isin(token, self._stop_ids)
        return token

    def reached(self) -> bool:
        return not bool(self._unfinished.any())  # a synchronisation, in runs that ask to stop early
