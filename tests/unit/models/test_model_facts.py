"""Facts follow from the config alone, and the predicted cache is the cache that transformers builds."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from kvbench.decoding.caches import logical_bytes
from kvbench.model_facts import facts_from_config, kv_cache_bytes
from kvbench.models.signature import library_cache
from kvbench.models.yuan_config import YuanConfig


def facts(config, dtype="float32"):
    return facts_from_config(config, name="m", source="random", dtype=dtype)


def walked_bytes(cache):
    return sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))


class TestPredictedCacheBytesAreTheBytesOfARealCache:
    @pytest.mark.parametrize("model_type", ["gpt2", "gemma", "llama", "qwen3", "mistral", "gemma2", "gemma3_text"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_after_a_prefill_and_after_every_step_across_the_sliding_window(self, tiny_config, model_type, dtype):
        config = tiny_config(model_type)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        known = facts(config, str(dtype).removeprefix("torch."))
        cache, seen = DynamicCache(config=model.config), 0
        for submitted in (5, 1, 1, 1, 1, 1, 3):
            with torch.inference_mode():
                model(input_ids=torch.ones(2, submitted, dtype=torch.long), **library_cache(cache), use_cache=True)
            seen += submitted
            assert walked_bytes(cache) == kv_cache_bytes(known, batch=2, tokens=seen)

    @pytest.mark.parametrize("resets", [True, False])
    def test_of_yuan_with_the_states_of_its_filter(self, resets):
        config = YuanConfig(
            vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=3,
            eod_token=7, pad_token_id=7, reset_attention_mask=resets, reset_position_ids=resets, dtype="float32",
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config).eval()
        cache = DynamicCache(config=config)
        for tokens, seen in ((1, 1), (4, 5), (1, 6)):
            model(torch.ones((2, tokens), dtype=torch.long), **library_cache(cache))
            assert kv_cache_bytes(facts(config), 2, seen) == logical_bytes(cache)

    def test_one_more_token_below_the_window_adds_kv_bytes_per_token(self, tiny_config):
        known = facts(tiny_config("gemma3_text"))
        assert known.kv_bytes_per_token == kv_cache_bytes(known, 1, 6) - kv_cache_bytes(known, 1, 5)

    def test_beyond_the_window_only_full_layers_grow(self, tiny_config):
        known = facts(tiny_config("gemma3_text"))
        assert known.kv_bytes_per_token // 4 == kv_cache_bytes(known, 1, 51) - kv_cache_bytes(known, 1, 50)


class TestShapesAreReadUnderEveryName:
    def test_gpt2_has_a_key_value_head_per_head_and_divides_its_width(self, tiny_config):
        known = facts(tiny_config("gpt2"))
        assert (
            known.layers, known.hidden_size, known.attention_heads, known.kv_heads, known.head_dim, known.max_context,
        ) == (3, 32, 4, 4, 8, 128)  # fmt: skip

    def test_a_plain_mapping_serves_as_well_as_a_config_object(self):
        known = facts({"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 128})
        assert (known.layers, known.kv_heads, known.head_dim, known.max_context) == (3, 4, 8, 128)

    def test_a_stated_head_width_wins_over_the_quotient(self, tiny_config):
        assert facts(tiny_config("qwen3")).head_dim == 16

    def test_multi_query_attention_has_one_key_value_head(self):
        assert facts({"n_layer": 1, "n_embd": 32, "n_head": 4, "multi_query": True}).kv_heads == 1

    def test_layers_are_named_full_and_sliding(self, tiny_config):
        assert facts(tiny_config("gemma2")).layer_types == ("sliding", "full", "sliding", "full")
        assert facts(tiny_config("mistral")).layer_types == ("sliding",) * 4

    def test_a_nested_text_config_is_the_one_that_counts(self, tiny_config):
        outer = SimpleNamespace(model_type="outer", text_config=tiny_config("llama"), tie_word_embeddings=False)
        known = facts(outer)
        assert (known.model_type, known.layers, known.kv_heads, known.tied_embeddings) == ("outer", 4, 2, False)


class TestWhatIsUnknownIsNoneWithAReason:
    @pytest.mark.parametrize(
        ("extra", "reason"),
        [
            ({"kv_lora_rank": 512}, "latent attention"),
            ({"value_head_dim": 4}, "different widths"),
            ({"mamba_d_state": 16}, "recurrent state"),
            ({"layer_types": ["linear_attention", "full_attention"]}, "layers of type linear_attention"),
            ({"is_encoder_decoder": True}, "encoder's keys and values"),
        ],
    )
    def test_an_architecture_with_another_cache_is_not_predicted(self, extra, reason):
        known = facts({"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, **extra})
        assert kv_cache_bytes(known, 1, 10) is None
        assert reason in known.null_reasons["kv_bytes_per_token"]

    def test_a_config_whose_layers_differ_is_not_predicted(self):
        class Heterogeneous:
            """transformers raises a RuntimeError for a value that is not the same in every layer."""

            is_heterogeneous = True
            num_hidden_layers = 2

            @property
            def num_attention_heads(self):
                raise RuntimeError("'num_attention_heads' is a per-layer attribute")

        known = facts(Heterogeneous())
        assert "its layers differ in shape" in known.null_reasons["kv_bytes_per_token"]
        assert (known.layers, known.attention_heads) == (2, None)

    def test_a_config_of_an_unknown_kind_states_nothing(self):
        known = facts({})
        assert known.layer_types == ()
        assert known.null_reasons["kv_bytes_per_token"].endswith("under a known name")

    def test_every_none_has_a_reason_and_nothing_else_has_one(self, tiny_config):
        known = facts(tiny_config("llama"))
        absent = {name for name, value in vars(known).items() if value is None}
        assert absent == set(known.null_reasons)


def test_facts_are_known_without_torch_and_transformers():
    code = "import sys, kvbench.model_facts; assert not {'torch', 'transformers'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
