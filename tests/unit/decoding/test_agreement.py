"""A broken cache is called by its name, a sound one never is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.analysis.agreement import judge
from kvbench.config.schema import SamplingConfig
from kvbench.decoding import agreement
from kvbench.decoding.agreement import FEW_STEPS, Divergence, compare, first_divergence
from kvbench.decoding.batches import make_batch
from kvbench.decoding.forward import Forward
from kvbench.decoding.loops import CachedLoop, Loop, NoCacheLoop
from kvbench.decoding.protocol import Decoder, PromptBatch
from kvbench.decoding.sampling import Forced, Sampler
from kvbench.decoding.setting import TorchSetting

PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12], [20, 21, 22, 23, 24, 25, 26, 27]]


class Pair:
    """A recompute loop and a candidate, as a session offers them."""

    batch_members = ((0, 1),)
    takes_masks = True

    def __init__(self, model: Any, candidate: type[Loop]) -> None:
        self._model = model
        self._loops: list[type[Loop]] = [NoCacheLoop, candidate]
        self.batches = (make_batch(0, PROMPTS, 12, torch.device("cpu")),)
        self.dtype = str(model.dtype).removeprefix("torch.")

    def decoder(self, arm: int, forced: Forced | None = None) -> Decoder:
        setting = TorchSetting("auto", self._model.config._attn_implementation, 0)
        return self._loops[arm](Forward(self._model), forced or Sampler(SamplingConfig()), setting, 0)

    def tokens(self, arm: int) -> list[list[int]]:
        from kvbench.decoding.protocol import Unobserved

        ids: list[list[int]] = self.decoder(arm).run(self.batches[0], 12, Unobserved()).new_ids.tolist()
        return ids

    def verdict(self) -> str | None:
        return judge(compare(self, 1, self.tokens(0), self.tokens(1), FEW_STEPS)).verdict


class WrongPosition(CachedLoop):
    """Every step is told that it is one token further than it is."""

    def _decode(self, batch: PromptBatch, *rest: Any) -> Any:
        prompt = batch.input_ids.shape[1]
        positions = batch.positions.clone()
        positions[:, prompt:] += 1
        return super()._decode(PromptBatch(0, batch.input_ids, positions, batch.mask, batch.lengths), *rest)


class CroppedTooFar(CachedLoop):
    """Loses the last prompt token from the cache after the prefill."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        made = super()._next_logits(ids, batch, length, cache)
        if length == batch.input_ids.shape[1]:
            for layer in cache.layers:
                layer.keys[:, :, -1] = layer.keys[:, :, -2]
                layer.values[:, :, -1] = layer.values[:, :, -2]
        return made


class SwappedRows(CachedLoop):
    """Gives each sequence the past of the other."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        made = super()._next_logits(ids, batch, length, cache)
        if length == batch.input_ids.shape[1]:
            cache.reorder_cache(torch.arange(ids.shape[0]).flip(0))
        return made


class StaleState(CachedLoop):
    """Was not emptied since another run."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        made = super()._next_logits(ids, batch, length, cache)
        if length == batch.input_ids.shape[1]:
            for layer in cache.layers:
                layer.values[:, :, :3] = layer.values[:, :, 3:6].clone()
        return made


@pytest.mark.parametrize("broken", [WrongPosition, CroppedTooFar, SwappedRows, StaleState])
@pytest.mark.parametrize("architecture", ["gemma", "llama"])
def test_a_broken_cache_is_a_mismatch(tiny_model: Callable[..., Any], architecture: str, broken: type[Loop]) -> None:
    assert Pair(tiny_model(architecture), broken).verdict() == "MISMATCH"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("architecture", "changes"), [("gemma", {}), ("gpt2", {}), ("mistral", {"sliding_window": 8})])
def test_a_sound_cache_never_is(
    tiny_model: Callable[..., Any], architecture: str, changes: dict[str, Any], dtype: torch.dtype
) -> None:
    model = tiny_model(architecture, **changes).to(dtype)
    assert Pair(model, CachedLoop).verdict() in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")


def test_an_arm_is_identical_to_itself(tiny_model: Callable[..., Any]) -> None:
    assert Pair(tiny_model("gemma"), NoCacheLoop).verdict() == "IDENTICAL"


def test_logits_that_overflow_are_not_judged(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    model.lm_head.weight.data[0] = torch.inf
    figures = compare(Pair(model, CachedLoop), 1, [[3] * 12] * 2, [[3] * 12] * 2, FEW_STEPS)
    judged = judge(figures)
    assert judged.verdict is None
    assert "not finite" in judged.detail


class TestNoise:
    def test_is_measured_without_the_candidate(
        self, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = tiny_model("llama")
        sound, broken = Pair(model, CachedLoop), Pair(model, WrongPosition)
        path = sound.tokens(0)
        figures = [compare(pair, 1, path, path, FEW_STEPS) for pair in (sound, broken)]
        assert figures[0].noise_abs == figures[1].noise_abs

    def test_shapes_other_than_the_measured_ones_are_used(self) -> None:
        batch = make_batch(0, PROMPTS, 4, torch.device("cpu"))
        padded, doubled = agreement._padded(batch), agreement._doubled(batch)
        assert padded.input_ids.shape == (2, 8 + agreement.NOISE_PADDING)
        assert padded.mask is not None
        assert padded.mask[:, : agreement.NOISE_PADDING].sum() == 0
        assert padded.positions[0, agreement.NOISE_PADDING :].tolist() == batch.positions[0].tolist()
        assert doubled.input_ids.shape == (4, 8)


class TestFirstDivergence:
    def test_is_the_earliest_over_all_sequences(self) -> None:
        assert first_divergence([[1, 2, 3], [4, 5, 6]], [[1, 2, 9], [4, 8, 6]]) == Divergence(1, 1)

    def test_counts_an_early_end(self) -> None:
        assert first_divergence([[1, 2, 3]], [[1, 2]]) == Divergence(2, 0)

    def test_is_none_for_equal_tokens(self) -> None:
        assert first_divergence([[1, 2]], [[1, 2]]) is None
