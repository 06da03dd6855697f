"""A baseline and candidates on one tiny model, as a session offers them, and caches that are broken on purpose."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache

from kvbench.analysis.output_verdict import judge
from kvbench.config.schema import SamplingConfig
from kvbench.decoding.agreement import compare
from kvbench.decoding.compared_steps import Edges
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.loops import CachedLoop, Loop, NoCacheLoop
from kvbench.decoding.protocol import Decoder, PromptBatch, Unobserved
from kvbench.decoding.sampling import Forced, Sampler
from kvbench.decoding.settings import SessionSettings
from kvbench.decoding.token_path import Compared, follow
from kvbench.models.checkpoint import DTYPES
from kvbench.models.signature import library_cache
from kvbench.passes import UNINTERRUPTED
from kvbench.records.agreement_figures import Agreement, AgreementFigures
from kvbench.running.arm_agreement import WIDER
from kvbench.running.wide_model import WideModel

NEW_TOKENS = 8
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12], [20, 21, 22, 23, 24, 25, 26, 27]]


class Pair:
    """A recompute loop and a candidate over batches of prompts, as a session offers them; others may stand `beside`."""

    caches: Sequence[str] = ("dynamic", "dynamic")

    def __init__(
        self,
        model: Any,
        candidate: Callable[..., Loop],
        prompts: Sequence[Sequence[int]] = PROMPTS,
        *,
        batch_size: int | None = None,
        new_tokens: int = NEW_TOKENS,
        beside: Sequence[Callable[..., Loop]] = (),
        **compared: Any,
    ) -> None:
        self._model = model
        self._own_attention = str(model.config._attn_implementation)
        self._loops: list[Callable[..., Loop]] = [NoCacheLoop, candidate, *beside]
        self._new_tokens = new_tokens
        size = batch_size or len(prompts)
        members = [tuple(range(len(prompts)))[begin : begin + size] for begin in range(0, len(prompts), size)]
        batches = [
            make_batch(number, [prompts[index] for index in some], new_tokens, torch.device("cpu"))
            for number, some in enumerate(members)
        ]
        dtype = str(model.dtype).removeprefix("torch.")
        wide = WideModel(model, DTYPES[WIDER[dtype]], torch.device("cpu")) if dtype in WIDER else None
        self.compared = Compared(
            batches=batches,
            batch_members=members,
            dtype=dtype,
            caches=[*self.caches, *("dynamic" for _ in beside)],
            takes_masks=True,
            vocabulary=int(model.config.vocab_size),
            edges=Edges(),
            whole=True,
            context=UNINTERRUPTED.context,
            decoder=self.decoder,
            unprepared=self.decoder,  # there are no engines here
            round_trip=self.round_trip,
            second_attention=lambda _: "eager" if self._own_attention == "sdpa" else None,
            wider=None if wide is None else partial(wide.recomputed, UNINTERRUPTED),
            wider_dtype=WIDER.get(dtype, ""),
            model=model,
        )
        self.compared = replace(self.compared, **compared)

    def decoder(
        self, arm: int, forced: Forced | None = None, *, attention: str | None = None, exact: bool = False
    ) -> Decoder:
        setting = SessionSettings(attention or "auto", self._own_attention, 0)
        return self._loops[arm](Forward(self._model), forced or Sampler(SamplingConfig()), setting, 0)

    def round_trip(self, arm: int, forced: Forced) -> Any:
        return None

    def tokens(self, arm: int) -> list[list[int]]:
        ids: list[list[int]] = []
        for batch in self.compared.batches:
            decoder = self.decoder(arm)
            decoder.prepare(None)
            ids += decoder.run(batch, self._new_tokens, Unobserved()).new_ids.tolist()
        return ids

    def figures(self, *tokens: Sequence[Sequence[int]]) -> AgreementFigures:
        """The comparison of both arms' free runs, or of the tokens that are taken for them."""
        (found,) = self.each_figures(*(tokens or (self.tokens(0), self.tokens(1))))
        return found

    def each_figures(self, *tokens: Sequence[Sequence[int]]) -> list[AgreementFigures]:
        """The same for the candidate and those beside it."""
        return compare(self.compared, tokens, lambda *_: None)

    def judged(self) -> Agreement:
        return judge(self.figures())

    def each_judged(self) -> list[Agreement]:
        """The candidate and those beside it, for which rounding is measured once."""
        return [judge(figures) for figures in self.each_figures(*map(self.tokens, range(len(self._loops))))]

    def logits(self, arm: int, path: torch.Tensor) -> list[torch.Tensor]:
        forced = Forced(path)
        return follow(self.decoder(arm, forced), forced, self.compared.batches[0])


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
