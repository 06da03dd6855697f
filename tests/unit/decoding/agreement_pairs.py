"""A baseline and a candidate on one tiny model, as a session offers them, and caches that are broken on purpose."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from kvbench.analysis.comparison import judge
from kvbench.config.schema import SamplingConfig
from kvbench.decoding.agreement import compare, follow
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.loops import CachedLoop, Loop, NoCacheLoop
from kvbench.decoding.protocol import Decoder, PromptBatch, Unobserved
from kvbench.decoding.sampling import Forced, Sampler
from kvbench.decoding.settings import SessionSettings
from kvbench.models.signature import library_cache
from kvbench.records.agreement_figures import Agreement

NEW_TOKENS = 8
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12], [20, 21, 22, 23, 24, 25, 26, 27]]


class Pair:
    """A recompute loop and a candidate, as a session offers them."""

    takes_masks = True
    inserts = False
    caches: Sequence[str] = ("dynamic", "dynamic")

    def __init__(self, model: Any, candidate: Callable[..., Loop], prompts: Sequence[Sequence[int]] = PROMPTS) -> None:
        self._model = model
        self._own_attention = str(model.config._attn_implementation)
        self._loops: list[Callable[..., Loop]] = [NoCacheLoop, candidate]
        self.batch_members = (tuple(range(len(prompts))),)
        self.batches = (make_batch(0, prompts, NEW_TOKENS, torch.device("cpu")),)
        self.dtype = str(model.dtype).removeprefix("torch.")

    def second_attention(self, batch: PromptBatch) -> str | None:
        return "eager" if self._own_attention == "sdpa" else None

    def decoder(
        self, arm: int, forced: Forced | None = None, *, attention: str | None = None, exact: bool = False
    ) -> Decoder:
        setting = SessionSettings(attention or "auto", self._own_attention, 0)
        return self._loops[arm](Forward(self._model), forced or Sampler(SamplingConfig()), setting, 0)

    unprepared = decoder  # there are no engines here

    def round_trip(self, arm: int, forced: Forced) -> None:
        return None

    def tokens(self, arm: int) -> list[list[int]]:
        decoder = self.decoder(arm)
        decoder.prepare(None)
        ids: list[list[int]] = decoder.run(self.batches[0], NEW_TOKENS, Unobserved()).new_ids.tolist()
        return ids

    def judged(self) -> Agreement:
        return judge(compare(self, 1, self.tokens(0), self.tokens(1), None))

    def logits(self, arm: int, path: torch.Tensor) -> list[torch.Tensor]:
        forced = Forced(path)
        return follow(self.decoder(arm, forced), forced, self.batches[0])


class Sabotaged(CachedLoop):
    """A cached loop that spoils its cache after the prefill."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        made = super()._next_logits(ids, batch, length, cache)
        if length == batch.input_ids.shape[1]:
            self.spoil(cache)
        return made

    @abstractmethod
    def spoil(self, cache: Any) -> None:
        """Do the damage."""


class WrongPosition(CachedLoop):
    """Every step is told that it is one token further than it is."""

    def _decode(self, batch: PromptBatch, *rest: Any) -> Any:
        prompt = batch.input_ids.shape[1]
        positions = batch.positions.clone()
        positions[:, prompt:] += 1
        return super()._decode(PromptBatch(0, batch.input_ids, positions, batch.mask, batch.lengths), *rest)


class CroppedTooFar(CachedLoop):
    """Crops one token too many after the prefill, and goes on: the last prompt token is not in its past."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        prompt = batch.input_ids.shape[1]
        if length == prompt:
            made = super()._next_logits(ids, batch, length, cache)
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys[:, :, :-1], layer.values[:, :, :-1]
            return made
        # Only the newest token is submitted, at its right position.
        logits = self._forward.last_logits(ids[:, length - 1 : length], batch, length, cache=cache, use_cache=True)
        return logits, []


class SwappedRows(Sabotaged):
    """Gives each sequence the keys of another."""

    def spoil(self, cache: Any) -> None:
        for layer in cache.layers:
            layer.keys = layer.keys.flip(0)


class KeptFromBefore(CachedLoop):
    """Was not emptied since another generation: that one's keys and values lie before its own."""

    def _begin(self, ids: torch.Tensor) -> DynamicCache:
        cache = super()._begin(ids)
        before = torch.tensor([[60, 61, 62]]).repeat(len(ids), 1)
        self._forward.model(input_ids=before, **library_cache(cache), use_cache=True)
        return cache

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        prompt = batch.input_ids.shape[1]
        newest = ids[:, :length] if length == prompt else ids[:, length - 1 : length]
        return self._forward.last_logits(newest, batch, length, cache=cache, use_cache=True), []


class NoWindow(CachedLoop):
    """Its sliding layers keep everything and attend to all of it."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        config = self._forward.model.config
        window, config.sliding_window = config.sliding_window, 4096
        try:
            return super()._next_logits(ids, batch, length, cache)
        finally:
            config.sliding_window = window

    def _begin(self, ids: torch.Tensor) -> DynamicCache:
        super()._begin(ids)
        return DynamicCache()  # without the config: every layer at full length


class DroppedFilterState(Sabotaged):
    """Forgets what Yuan's convolutions look back on, at every step."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        made = super()._next_logits(ids, batch, length, cache)
        self.spoil(cache)
        return made

    def spoil(self, cache: Any) -> None:
        for layer in cache.layers:
            layer.conv_states[0].zero_()
