"""Every kind of cache holds what it is predicted to hold, and writes what it should write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    cache_utils,
)

from kvbench.capabilities import CACHES, group_size
from kvbench.config.schema import SamplingConfig
from kvbench.decoding.caches import CacheMaker, host_bytes, logical_bytes, repeatable_cache, require_cache_classes
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.generate import Generate
from kvbench.decoding.loops import CachedLoop, Loop
from kvbench.decoding.protocol import Decoded, Decoder, PromptBatch, Unobserved
from kvbench.decoding.sampling import Forced, Sampler
from kvbench.decoding.settings import SessionSettings
from kvbench.errors import ModelUnavailable
from kvbench.model_costs import cache_bytes, keeps_all_conflict, quantised_conflict
from kvbench.model_facts import ModelFacts, facts_from_config
from kvbench.models.signature import library_cache
from tests.unit.decoding.agreement_pairs import Pair

pytestmark = pytest.mark.versions

SHAPE = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
}  # fmt: skip
NEW_TOKENS = 8
PROMPTS = [list(range(5, 17)), list(range(30, 42))]
LOSSY = [kind.name for kind in CACHES.values() if kind.lossy]
CPU = torch.device("cpu")


def tiny(config: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config.initializer_range = 1.5 / config.hidden_size**0.5
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def require(kind: str) -> None:
    package = CACHES[kind].package
    if package is not None:
        pytest.importorskip(package)
    if kind == "fp8" and not hasattr(cache_utils, "Fp8QuantizedLayer"):
        pytest.skip("this transformers has no fp8 cache")


def facts_of(config: Any, dtype: str = "float32") -> ModelFacts:
    return facts_from_config(config, name="tiny", source="path", dtype=dtype)


def decoded(model: Any, kind: str, prompts: list[list[int]] = PROMPTS, new_tokens: int = NEW_TOKENS) -> Decoded:
    forward = Forward(model)
    setting = SessionSettings("auto", str(model.config._attn_implementation), 0)
    loop = CachedLoop(forward, Sampler(SamplingConfig()), setting, 0, caches=CacheMaker(forward, kind))
    loop.prepare(None)
    with torch.inference_mode():
        return loop.run(make_batch(0, prompts, new_tokens, CPU), new_tokens, Unobserved())


class TestBytes:
    @pytest.mark.filterwarnings("ignore")  # the packages' own
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("kind", LOSSY)
    def test_quantised_caches_are_predicted_to_the_byte_before_and_after_the_newest_are_quantised(
        self, kind: str, dtype: str
    ) -> None:
        require(kind)
        config = LlamaConfig(**SHAPE)
        cache = CacheMaker(Forward(tiny(config)), kind).new(2, 200)
        facts = facts_of(config, dtype)
        seen = 0
        for submitted in (37, *[1] * 130):
            for layer in range(2):
                states = torch.randn(2, 2, submitted, 16, dtype=getattr(torch, dtype))
                cache.update(states, states, layer)
            seen += submitted
            if seen in (37, 38, 164, 165, 167):  # the 128th new token is the 165th
                assert cache_bytes(facts, kind, 2, seen, prompt=37) == logical_bytes(cache)

    def test_fp8_takes_a_byte_an_element_and_two_scales_a_layer(self) -> None:
        facts = facts_of(LlamaConfig(**SHAPE))
        assert 2 * 2 * (3 * 50 * 32) + 2 * 2 * 4 == cache_bytes(facts, "fp8", 3, 50, prompt=20)

    def test_four_bits_of_quanto_are_codes_scales_and_shifts(self) -> None:
        facts = facts_of(LlamaConfig(**SHAPE), "bfloat16")
        elements = 100 * 32  # of the prompt, in groups of 32
        newest = 9 * 32 * 2
        expected = 4 * (elements // 2 + 2 * (elements // 32) * 2 + newest)
        assert expected == cache_bytes(facts, "quanto_int4", 1, 109, prompt=100)

    @pytest.mark.parametrize(("width", "group"), [(256, 64), (40, 8), (32, 32), (12, None)])
    def test_groups_are_as_large_as_the_heads_allow(self, width: int, group: int | None) -> None:
        assert group == group_size(width)

    @pytest.mark.parametrize("kind", ["dynamic", "full", "static"])
    @pytest.mark.parametrize("config", [MistralConfig, Gemma2Config])
    def test_layers_with_a_window_hold_what_is_predicted(self, config: Any, kind: str) -> None:
        shape = config(**SHAPE, sliding_window=8)
        cache = decoded(tiny(shape), kind).cache
        held = len(PROMPTS[0]) + NEW_TOKENS - 1
        assert logical_bytes(cache) == cache_bytes(facts_of(shape), kind, 2, held, prompt=12, length=64)
        assert host_bytes(cache, CPU) == 0
        if kind == "full":
            assert held * 2 * 32 * 4 * 2 * 2 == logical_bytes(cache)  # tokens, keys and values, bytes, layers, rows

    def test_a_static_cache_is_its_length_its_windows_and_its_counters(self) -> None:
        facts = facts_of(MistralConfig(**SHAPE, sliding_window=8))
        assert 2 * (2 * 2 * 8 * 16 * 4) * 3 + 2 * 8 == cache_bytes(facts, "static", 3, 20, prompt=12, length=64)
        unwindowed = cache_bytes(facts, "static", 3, 20, prompt=12, length=64, windows=False)
        assert 2 * (2 * 2 * 64 * 16 * 4) * 3 + 2 * 8 == unwindowed


class TestOutputs:
    @pytest.mark.parametrize("config", [LlamaConfig, MistralConfig, Gemma2Config])
    def test_static_writes_what_dynamic_writes(self, config: Any) -> None:
        shape = config(**SHAPE) if config is LlamaConfig else config(**SHAPE, sliding_window=8)
        model = tiny(shape)
        assert decoded(model, "dynamic").new_ids.tolist() == decoded(model, "static").new_ids.tolist()

    @pytest.mark.parametrize("kind", ["static", "fp8"])
    def test_generate_writes_what_the_loop_writes_with_the_same_cache(self, kind: str) -> None:
        require(kind)
        model = tiny(LlamaConfig(**SHAPE))
        setting = SessionSettings("auto", "sdpa", 0)
        batch = make_batch(0, PROMPTS, NEW_TOKENS, CPU)
        generate = Generate(model, {"do_sample": False}, setting, 0, use_cache=True, cache=kind)
        long = make_batch(0, [PROMPTS[0] * 3], NEW_TOKENS, CPU)
        generate.run(long, NEW_TOKENS, Unobserved())  # whose static cache is longer
        found = generate.run(batch, NEW_TOKENS, Unobserved())
        assert decoded(model, kind).new_ids.tolist() == found.new_ids.tolist()
        length = 12 + NEW_TOKENS - 1  # not the longer one of before
        held = cache_bytes(facts_of(model.config), kind, 2, length, prompt=12, length=length)
        assert held == logical_bytes(found.cache)


class TestKeptForAnEngine:
    def test_windows_of_at_least_the_length_are_left_out(self) -> None:
        cache = repeatable_cache(MistralConfig(**SHAPE, sliding_window=64), 64)
        assert [False, False] == cache.is_sliding

    def test_a_shorter_window_is_refused(self) -> None:
        with pytest.raises(ModelUnavailable, match="window of 8 tokens, shorter than the cache's 64"):
            repeatable_cache(Gemma2Config(**SHAPE, sliding_window=8), 64)

    def test_a_cache_without_windows_gives_the_same_logits(self) -> None:
        model = tiny(MistralConfig(**SHAPE, sliding_window=64))
        ids = torch.tensor(PROMPTS)
        plain, repeatable = CacheMaker(Forward(model), "static"), CacheMaker(Forward(model), "static", kept=True)
        found = []
        for caches in (plain, repeatable):
            cache = caches.new(2, 64)
            model(input_ids=ids, **library_cache(cache))
            found.append(model(input_ids=ids[:, :1], **library_cache(cache)).logits)
        torch.testing.assert_close(*found)

    def test_a_run_cut_short_has_the_cache_of_a_whole_one(self) -> None:
        """A static cache as long as the few steps that are compared was another step than the one that is timed."""
        forward = Forward(tiny(LlamaConfig(**SHAPE)))
        caches = CacheMaker(forward, "static", kept=True)
        loop = CachedLoop(forward, Sampler(SamplingConfig()), SessionSettings("auto", "sdpa", 0), 0, caches=caches)
        batch = make_batch(0, PROMPTS, 100, torch.device("cpu"))
        short, whole = (loop.run(batch, tokens, Unobserved()) for tokens in (3, 100))
        assert short.cache is whole.cache
        assert 128 == whole.cache.layers[0].max_cache_len


class TestWhatACacheCannotHold:
    def test_states_are_not_kept_token_by_token(self) -> None:
        found = keeps_all_conflict(facts_of(FalconH1Config(num_hidden_layers=2)), "full")
        assert "this model has layers of type hybrid" in (found or "")

    def test_a_cache_that_forgets_nothing_is_refused_where_none_forgets(self) -> None:
        assert "no layer of this model has a window" in (
            keeps_all_conflict(facts_of(LlamaConfig(**SHAPE)), "full") or ""
        )
        assert keeps_all_conflict(facts_of(LlamaConfig(**SHAPE, sliding_window=8)), "full") is None

    def test_windows(self) -> None:
        found = quantised_conflict(facts_of(Gemma2Config(**SHAPE, sliding_window=8)), "fp8")
        assert found is not None
        assert "layers of type sliding" in found

    def test_heads_that_come_in_no_groups(self) -> None:
        odd = LlamaConfig(**{**SHAPE, "num_key_value_heads": 1, "head_dim": 12})
        assert quantised_conflict(facts_of(odd), "fp8") is None
        assert "groups of 8" in (quantised_conflict(facts_of(odd), "hqq_int4") or "")


class QuantisedPair(Pair):
    """Recompute, and a loop with a quantised cache that may be spoiled."""

    def __init__(self, model: Any, kind: str, spoil: Callable[[Any], None] | None = None) -> None:
        self._kind, self._spoil = kind, spoil

        def candidate(forward: Any, *rest: Any) -> Loop:
            loop = _Spoiled if spoil else CachedLoop
            made = loop(forward, *rest, caches=CacheMaker(forward, kind))
            if isinstance(made, _Spoiled):
                made.spoil = spoil
            return made

        self.caches = ("none", kind)
        super().__init__(model, candidate)

    def round_trip(self, arm: int, forced: Forced) -> Any:
        if arm == 0:
            return None
        forward = Forward(self._model)
        caches = CacheMaker(forward, self._kind, round_trip=True)
        loop: Decoder = CachedLoop(forward, forced, SessionSettings("auto", self._own_attention, 0), 0, caches=caches)
        return loop, lambda found: found.cache.worst_steps()


class _Spoiled(CachedLoop):
    spoil: Callable[[Any], None] | None = None

    def _next_logits(self, ids: Any, batch: PromptBatch, length: int, cache: Any) -> Any:
        made = super()._next_logits(ids, batch, length, cache)
        if length == batch.input_ids.shape[1] and self.spoil:
            self.spoil(cache)
        return made


def rows_swapped(cache: Any) -> None:
    """Each sequence has the first layer's keys of another."""
    codes, scale = cache.layers[0]._quantized_keys
    cache.layers[0]._quantized_keys = (codes.flip(0), scale)


class TestVerdict:
    @pytest.mark.filterwarnings("ignore")  # the packages' own
    @pytest.mark.parametrize("kind", LOSSY)
    @pytest.mark.parametrize("seed", [0, 1])
    def test_a_quantised_cache_differs_by_its_quantisation_and_is_not_called_equal(self, kind: str, seed: int) -> None:
        require(kind)
        found = QuantisedPair(tiny(LlamaConfig(**SHAPE), seed), kind).judged()
        assert (None, "quantised cache") == (found.verdict, found.differs_by)
        assert f"differs by the cache's own quantisation ({kind})" in found.detail
        assert f"of {2 * NEW_TOKENS} tokens differ" in found.detail
        (round_trip,) = found.round_trips
        assert round_trip.explains
        assert (found.max_rel_logit_diff or 0) > (found.allowed_rel or 0)

    def test_a_fault_in_a_quantised_cache_is_a_mismatch(self) -> None:
        require("fp8")
        found = QuantisedPair(tiny(LlamaConfig(**SHAPE)), "fp8", rows_swapped).judged()
        assert ("MISMATCH", "") == (found.verdict, found.differs_by)
        assert not found.round_trips[0].explains

    def test_a_quantiser_that_is_off_by_more_than_its_step_explains_nothing(self, monkeypatch: Any) -> None:
        require("hqq_int8")
        layer = cache_utils.HQQQuantizedLayer
        sound = layer._dequantize
        monkeypatch.setattr(layer, "_dequantize", lambda self, codes: sound(self, codes) * 0.9)
        assert "MISMATCH" == QuantisedPair(tiny(LlamaConfig(**SHAPE)), "hqq_int8").judged().verdict


def test_a_transformers_without_a_kind_of_cache_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cache_utils, "Fp8QuantizedLayer", raising=False)
    require_cache_classes(["dynamic", "hqq_int4"])
    with pytest.raises(ModelUnavailable, match=r"cache=fp8: transformers .* has no such cache: pip install -U"):
        require_cache_classes(iter(["dynamic", "fp8"]))
