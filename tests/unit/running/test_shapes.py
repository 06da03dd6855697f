"""Shapes are those of what the model really returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.capabilities import habits_of
from kvbench.config.schema import SamplingConfig
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.generate import Generate
from kvbench.decoding.loops import CachedLoop, Habits, NoCacheLoop
from kvbench.decoding.sampling import Sampler, generate_arguments
from kvbench.decoding.settings import SessionSettings
from kvbench.running.outputs import Returned

pytestmark = pytest.mark.versions

PROMPT = [[5, 6, 7, 8, 9], [3, 4, 5, 6, 7]]


def returned(model: Any, mode: str, **asked: bool) -> list[dict[str, Any]]:
    setting = SessionSettings("auto", model.config._attn_implementation, 0)
    sampling = SamplingConfig()
    if mode.startswith("generate"):
        decoder: Any = Generate(model, generate_arguments(sampling), setting, 0, use_cache=mode == "generate")
    else:
        loop = CachedLoop if mode == "cached" else NoCacheLoop
        habits = Habits(habits_of(mode, "none"))
        decoder = loop(Forward(model), Sampler(sampling), setting, 0, habits=habits)
    decoder.prepare(None)
    with Returned(model, **{"hidden_states": False, "attentions": False, **asked}) as seen:
        decoder.run(make_batch(0, PROMPT, 3, torch.device("cpu")), 3, seen)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    return seen.passes


def shapes(layer: dict[str, Any]) -> dict[str, list[int]]:
    return {name: tensor["shape"] for name, tensor in layer["tensors"].items()}


class TestAPass:
    @pytest.mark.parametrize("mode", ["cached", "generate"])
    def test_of_a_cached_mode_submits_one_token_and_hands_back_every_layer(
        self, tiny_model: Callable[..., Any], mode: str
    ) -> None:
        prefill, step = returned(tiny_model("llama"), mode)
        assert ([2, 5], [2, 1]) == (prefill["input_ids"]["shape"], step["input_ids"]["shape"])
        assert [2, 1, 97] == prefill["logits"]["shape"] == step["logits"]["shape"]
        assert 2 * 97 * 4 == step["logits"]["bytes"]
        assert [{"keys": [2, 2, 6, 8], "values": [2, 2, 6, 8]}] * 3 == [shapes(layer) for layer in step["cache_layers"]]
        keys = prefill["cache_layers"][0]["tensors"]["keys"]
        assert (["batch", "kv_heads", "seq", "head_dim"], "float32", 2 * 2 * 5 * 8 * 4) == (
            keys["dimensions"],
            keys["dtype"],
            keys["bytes"],
        )

    @pytest.mark.parametrize("mode", ["nocache", "generate_nocache"])
    def test_of_recompute_submits_everything_and_hands_back_no_cache(
        self, tiny_model: Callable[..., Any], mode: str
    ) -> None:
        _, step = returned(tiny_model("llama"), mode)
        assert ([2, 6], [2, 1, 97], []) == (step["input_ids"]["shape"], step["logits"]["shape"], step["cache_layers"])

    def test_of_the_naive_loop_has_all_logits_and_the_cache_that_it_drops(self, tiny_model: Callable[..., Any]) -> None:
        _, step = returned(tiny_model("llama"), "nocache_naive")
        assert [2, 6, 97] == step["logits"]["shape"]
        assert {"keys": [2, 2, 6, 8], "values": [2, 2, 6, 8]} == shapes(step["cache_layers"][0])

    def test_says_why_there_is_no_loss(self, tiny_model: Callable[..., Any]) -> None:
        _, step = returned(tiny_model("llama"), "cached")
        assert (None, "no labels were given, so there is no loss") == (step["loss"], step["loss_reason"])
        assert "shapes.attentions=true" in step["attentions_reason"]

    def test_of_a_sliding_layer_holds_the_window(self, tiny_model: Callable[..., Any]) -> None:
        _, step = returned(tiny_model("mistral", sliding_window=4), "cached")
        assert [2, 2, 3, 8] == shapes(step["cache_layers"][0])["keys"]

    def test_of_yuan_shows_the_states_of_its_filter(self) -> None:
        from kvbench.models.yuan import YuanForCausalLM
        from kvbench.models.yuan_config import YuanConfig

        config = YuanConfig(
            vocab_size=97, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            eod_token=2, pad_token_id=2, bos_token_id=2, eos_token_id=2,
        )  # fmt: skip
        _, step = returned(YuanForCausalLM(config).eval(), "cached")
        held = shapes(step["cache_layers"][1])
        assert {"conv_states.0": [2, 32, 2], "conv_states.1": [2, 1, 1]} == {
            name: shape for name, shape in held.items() if name.startswith("conv")
        }
        assert step["cache_layers"][0]["tensors"]["conv_states.0"]["dimensions"] == ["batch", "channels", "kernel"]


class TestWhatIsAskedFor:
    @pytest.mark.parametrize("mode", ["cached", "nocache", "generate"])
    def test_comes_back_with_its_dimensions(self, tiny_model: Callable[..., Any], mode: str) -> None:
        model = tiny_model("llama")
        model.set_attn_implementation("eager")
        _, step = returned(model, mode, hidden_states=True, attentions=True)
        submitted = 6 if mode == "nocache" else 1
        assert [[2, submitted, 32]] * 4 == [each["shape"] for each in step["hidden_states"]]
        assert [[2, 4, submitted, 6]] * 3 == [each["shape"] for each in step["attentions"]]

    def test_and_not_returned_has_a_reason(self, tiny_model: Callable[..., Any]) -> None:
        _, step = returned(tiny_model("llama", attn_implementation="sdpa"), "cached", attentions=True)
        assert step["attentions"] is None
        assert "returns none" in step["attentions_reason"]
