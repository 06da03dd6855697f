"""Predicted FLOPs are those that torch counts, predicted bytes are those of the parameters, for every shape shipped."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

import kvbench.models  # noqa: F401 - registers Yuan
from kvbench.cache_layers import CacheLayers
from kvbench.config.compose import load_config, sources
from kvbench.config.conf_files import conf_folder
from kvbench.model_costs import Cost, facts_from_mapping, pass_cost, step_cost, unknown_arithmetic
from kvbench.model_facts import ModelFacts, facts_from_config
from kvbench.models.loading import quietly
from kvbench.models.signature import library_cache
from kvbench.models.sizing import weight_size
from kvbench.models.weights_read import PassWatch

READY = [
    file.stem
    for file in sorted((conf_folder() / "model").glob("*.yaml"))
    if "architecture" in file.read_text(encoding="utf-8")
]
# The ready shapes at a width that counts in milliseconds; what makes each of them itself stays.
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "vocab_size": 512,
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "head_dim": 16,
}
OTHERS = {
    "mixtral": {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2},
    "gemma2": {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 8},
    "qwen3_moe": {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    },
}


def small_config(name: str):
    if name in OTHERS:
        return AutoConfig.for_model(name, **{**SMALL, **OTHERS[name]})
    shape = dict(load_config([f"model={name}"], sources()).model.architecture)
    kind = shape.pop("model_type")
    reduced = {key: min(value, SMALL[key]) for key, value in shape.items() if key in SMALL}
    if "num_attention_heads" in shape:
        share = max(1, shape["num_attention_heads"] // shape.get("num_key_value_heads", shape["num_attention_heads"]))
        reduced |= {"num_attention_heads": 8, "num_key_value_heads": max(1, 8 // share)}
    if shape.get("head_dim") is None:
        reduced.pop("head_dim", None)
    ids = {key: 0 for key in shape if key.endswith("token_id") or key == "eod_token"}
    return AutoConfig.for_model(kind, **{**shape, **reduced, **ids})


def small_model(name: str):
    with quietly():
        model = AutoModelForCausalLM.from_config(
            small_config(name), dtype=torch.float32, attn_implementation="eager"
        ).eval()
        if name in ("mixtral", "qwen3_moe"):
            model.set_experts_implementation("eager")  # the counter does not see into grouped products
        return model


def facts_of(model) -> ModelFacts:
    size = weight_size(model)
    return facts_from_config(
        model.config,
        name="small",
        source="random",
        dtype="float32",
        parameters=size.parameters,
        weight_bytes=size.bytes,
        weight_parts=parts_of(model),
    )


def parts_of(model) -> dict[str, dict[str, int]]:
    with torch.no_grad(), PassWatch(model, 14, 2) as watch:
        model(input_ids=torch.arange(14).reshape(2, 7) + 3, logits_to_keep=1, use_cache=False)
    return watch.parts()


def counted_flops(model, ids, **arguments) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, logits_to_keep=1, **arguments)
    return counter.get_total_flops()


@pytest.mark.parametrize("name", [*READY, *OTHERS])
class TestEveryShape:
    @pytest.mark.parametrize("tokens", [5, 40])
    def test_flops_of_a_prefill_are_those_that_torch_counts(self, name: str, tokens: int) -> None:
        model = small_model(name)
        ids = torch.arange(2 * tokens).reshape(2, tokens) % 200 + 3
        predicted = pass_cost(facts_of(model), 2, tokens)
        assert predicted is not None
        assert predicted.square_flops == pytest.approx(counted_flops(model, ids, use_cache=False), rel=0.02)

    def test_flops_of_a_cached_step_are_those_that_torch_counts(self, name: str) -> None:
        model = small_model(name)
        ids = torch.arange(2 * 21).reshape(2, 21) % 200 + 3
        cache = DynamicCache(config=model.config)
        counted_flops(model, ids[:, :20], **library_cache(cache), use_cache=True)
        step = counted_flops(model, ids[:, 20:], **library_cache(cache), use_cache=True)
        predicted = step_cost(facts_of(model), 2, 21, keeps_past=True)
        assert predicted is not None
        assert predicted.square_flops == pytest.approx(step, rel=0.02)

    def test_the_parts_are_the_whole(self, name: str) -> None:
        model = small_model(name)
        parts = parts_of(model)
        assert sum(part["parameters"] for part in parts.values()) == weight_size(model).parameters
        assert sum(part["bytes"] for part in parts.values()) == weight_size(model).bytes


def shape(**changes) -> ModelFacts:
    """Two layers of two heads of width 8 over one key-value head; 1,000 linear weights and a head of 320."""
    part = {"parameters": 0, "bytes": 0}
    base = {
        "name": "m",
        "source": "random",
        "dtype": "bfloat16",
        "hidden_size": 16,
        "attention_heads": 2,
        "head_dim": 8,
        "kv_heads": 1,
        "layer_types": ("full", "full"),
        "cache_layers": (asdict(CacheLayers(2, "full", token_bytes=32, counters=1, pair_products=2 * 16)),),
        "kv_bytes_per_token": 2 * 1 * 8 * 2 * 2,
        "fixed_cache_bytes": 0,
        "weight_parts": {
            "linear": {"parameters": 1000, "bytes": 2000},
            "experts": dict(part),
            "head": {"parameters": 320, "bytes": 640},
            "embedding": dict(part),
            "other": {"parameters": 10, "bytes": 20},
        },
        **changes,
    }
    return facts_from_mapping(base)


class TestArithmetic:
    def test_of_a_cached_step(self) -> None:
        pairs = 2 * 5  # two layers, the newest token sees five
        expected = Cost(2660, 64 * 5, 2 * 1000 + 2 * 320 + 64 * pairs, 2 * 1000 + 2 * 320 + 64 * pairs, 640)
        assert step_cost(shape(), 1, 5, keeps_past=True) == expected

    def test_of_a_recompute_step(self) -> None:
        flops = 2 * 1000 * 5 + 640
        expected = Cost(2660, 0, flops + 64 * 2 * 15, flops + 64 * 2 * 25, 640)
        assert step_cost(shape(), 1, 5, keeps_past=False) == expected

    def test_all_logits_cost_the_head_at_every_position(self) -> None:
        few, all_ = (step_cost(shape(), 1, 5, keeps_past=False, logits=count) for count in (1, 5))
        assert all_ is not None
        assert few is not None
        assert all_.flops - few.flops == 4 * 640
        assert all_.head_flops == 5 * 640

    def test_a_window_bounds_what_a_query_sees(self) -> None:
        windowed = shape(
            cache_layers=(asdict(CacheLayers(1, "sliding", token_bytes=32, window=3, pair_products=2 * 16)),)
        )
        prefill = pass_cost(windowed, 1, 6)
        assert prefill is not None
        assert prefill.flops == 2 * 1000 * 6 + 640 + 64 * (1 + 2 + 3 * 4)
        step = step_cost(windowed, 1, 100, keeps_past=True)
        assert step is not None
        assert step.flops == 2640 + 64 * 3
        assert step.kv_bytes == 32 * 2  # the window less the token that the next step brings

    def test_a_tied_table_is_read_once_and_a_table_of_its_own_by_the_row(self) -> None:
        parts = dict(shape().weight_parts or {}, embedding={"parameters": 320, "bytes": 640})
        untied = step_cost(shape(weight_parts=parts), 3, 5, keeps_past=True)
        assert untied is not None
        assert untied.weight_bytes == 2660 + 3 * 16 * 2

    def test_a_token_uses_its_share_of_the_experts(self) -> None:
        experts = {"parameters": 800, "bytes": 1600, "multiplied": 800, "products": 200}
        mixture = shape(weight_parts=dict(shape().weight_parts or {}, experts=experts))
        one, many = (step_cost(mixture, batch, 1, keeps_past=True) for batch in (1, 200))
        assert one is not None
        assert many is not None
        assert one.weight_bytes == 2660 + 400
        assert one.flops == 2 * (1000 + 200) + 640 + 64 * 2
        assert many.weight_bytes == 2660 + 1600

    @pytest.mark.parametrize("missing", ["weight_parts", "kv_bytes_per_token"])
    def test_what_is_not_known_gives_no_cost(self, missing: str) -> None:
        assert step_cost(shape(**{missing: None}), 1, 5, keeps_past=True) is None

    def test_where_the_arithmetic_of_a_layer_is_not_known_its_bytes_still_are(self) -> None:
        recurrent = shape(
            cache_layers=(asdict(CacheLayers(2, "linear_attention", state_bytes=50, pair_products=None)),)
        )
        cost = step_cost(recurrent, 3, 5, keeps_past=True)
        assert cost is not None
        assert (2660, 2 * 3 * 50, None, None) == (cost.weight_bytes, cost.kv_bytes, cost.flops, cost.square_flops)
        assert "linear_attention" in str(unknown_arithmetic(recurrent))

    def test_a_latent_past_is_made_into_keys_again_at_every_step(self) -> None:
        latent = shape(cache_layers=(asdict(CacheLayers(2, "full", token_bytes=32, past_products=7)),))
        flops = [step_cost(latent, 1, context, keeps_past=True).flops for context in (5, 6)]
        assert 2 * 2 * 7 == flops[1] - flops[0]
