"""Of every kind of cache that transformers has, the predicted bytes are the tensors', the FLOPs those torch counts."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, StaticCache
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from kvbench.decoding.caches import logical_bytes
from kvbench.decoding.forward import Forward, make_batch
from kvbench.library_versions import release
from kvbench.model_costs import cache_bytes, pass_cost, step_cost, unknown_arithmetic
from kvbench.model_facts import ModelFacts, facts_from_config
from kvbench.models.loading import quietly
from kvbench.models.signature import signature_of
from kvbench.models.sizing import weight_size
from kvbench.models.weights_read import PassWatch
from kvbench.running.step_work import flops_of_prefill
from tests.tiny_architectures import ARCHITECTURES, LATENT, SHAPE, shape_of

# Until 5.23 rotary embeddings were made by a product, which the counter sees: up to two in a hundred at these widths.
ROTATIONS = 0.0 if release(transformers.__version__) >= (5, 24, 0) else 0.02
UNTIL_5_22 = "deepseek_sparse_attention"  # layers that keep whole keys; the newer ones keep latents
ROWS, PROMPT, LENGTH = 2, 11, 24
# What has no formula for its arithmetic; of all others FLOPs must be exact.
BYTES_ALONE = {
    "hy_v4": "indexed_attention",
    "dots3_note_text": "indexed_attention",
    "bamba": "linear_attention",
    "jamba": "linear_attention",
    "nemotron_h": "linear_attention",
    "qwen3_next": "linear_attention",
    "qwen4_exp_text": "indexed_attention",
    "kimi_linear": "linear_attention",
    "lfm2_moe": "conv",
    "zaya": "hybrid",
    "inkling_text": "hybrid",
}


@cache
def model_of(model_type: str, dtype: torch.dtype = torch.float32) -> Any:
    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {model_type}")
    if model_type == "git" and ROTATIONS:
        pytest.skip("this transformers asks for an image")
    torch.manual_seed(0)
    with quietly():
        try:
            config = AutoConfig.for_model(model_type, **shape_of(model_type))
        except Exception as error:
            if "Unsupported" not in str(error):
                raise
            pytest.skip(f"this transformers has no such layers of {model_type}")
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        model.set_attn_implementation("eager")
    if getattr(model.config, "_experts_implementation", None) is not None:
        model.set_experts_implementation("eager")
    return model


@cache
def counted_of(model_type: str) -> Any:
    model = model_of(model_type)
    batch = make_batch(0, [[3 + 7 * row + index for index in range(9)] for row in range(ROWS)], 1, model.device)
    return flops_of_prefill(Forward(model), batch)


def facts_of(model: Any, weights: dict[str, dict[str, int]] | None = None) -> ModelFacts:
    dtype = str(model.dtype).removeprefix("torch.")
    return facts_from_config(model.config, name="tiny", source="random", dtype=dtype, weight_parts=weights)


def known_facts_of(model: Any, weights: dict[str, dict[str, int]] | None = None) -> ModelFacts:
    """Its facts, where the cache is predicted with this version of transformers."""
    facts = facts_of(model, weights)
    if UNTIL_5_22 in facts.layer_types:
        assert "index keys" in facts.null_reasons["kv_bytes_per_token"]
        pytest.skip("this transformers keeps whole keys in layers of sparse attention")
    return facts


def submit(model: Any, tokens: int, past: int, held: Any = None) -> None:
    signature = signature_of(model)
    arguments = {"use_cache": held is not None, **signature.handing(held)}
    if signature.positions:
        arguments["position_ids"] = torch.arange(past, past + tokens).expand(ROWS, tokens)
    if signature.logits_to_keep:
        arguments["logits_to_keep"] = 1
    with torch.no_grad():
        model(input_ids=torch.arange(ROWS * tokens).reshape(ROWS, tokens) % 60 + 3, **arguments)


def flops_of(model: Any, tokens: int, past: int, held: Any = None) -> int:
    with torch.no_grad(), PassWatch(model, ROWS * tokens, ROWS) as watch:
        submit(model, tokens, past, held)
    return watch.flops


@pytest.mark.versions
@pytest.mark.parametrize("model_type", ARCHITECTURES)
class TestOfEveryKind:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_dynamic_cache_holds_what_is_predicted(self, model_type: str, dtype: torch.dtype) -> None:
        model = model_of(model_type, dtype)
        facts, held, seen = known_facts_of(model), DynamicCache(config=model.config), 0
        for tokens in (5, 1, 5, 1):  # up to the window of 8, and beyond
            submit(model, tokens, seen, held)
            seen += tokens
            assert logical_bytes(held) == cache_bytes(facts, "dynamic", ROWS, seen, prompt=5)

    def test_a_static_cache_holds_what_is_predicted(self, model_type: str) -> None:
        model = model_of(model_type)
        held = StaticCache(config=model.config, max_cache_len=LENGTH)
        submit(model, PROMPT, 0, held)
        predicted = cache_bytes(known_facts_of(model), "static", ROWS, PROMPT, prompt=PROMPT, length=LENGTH)
        assert logical_bytes(held) == predicted

    def test_flops_are_exact_or_unknown_with_a_reason(self, model_type: str) -> None:
        model = model_of(model_type)
        facts = known_facts_of(model, counted_of(model_type).weights)
        logits = 1 if signature_of(model).logits_to_keep else PROMPT
        prefill = pass_cost(facts, ROWS, PROMPT, logits=logits)
        step = step_cost(facts, ROWS, PROMPT + 1, keeps_past=True)
        assert prefill is not None and step is not None  # noqa: PT018
        if model_type in BYTES_ALONE:
            assert (None, None) == (prefill.flops, step.square_flops)
            assert BYTES_ALONE[model_type] in str(unknown_arithmetic(facts))
            return
        held = DynamicCache(config=model.config)
        if not (ROTATIONS and model_type == "gemma4_text"):  # its last layers computed every position until then
            assert flops_of(model, PROMPT, 0) == pytest.approx(prefill.square_flops, rel=ROTATIONS, abs=0)
        submit(model, PROMPT, 0, held)
        assert flops_of(model, 1, PROMPT, held) == pytest.approx(step.square_flops, rel=ROTATIONS, abs=0)

    def test_every_weight_is_in_one_part(self, model_type: str) -> None:
        parts, size = counted_of(model_type).weights, weight_size(model_of(model_type))
        assert size.parameters == sum(part["parameters"] for part in parts.values())
        assert size.bytes == sum(part["bytes"] for part in parts.values())


class TestWeightsAreSeenNotGuessed:
    def test_what_is_for_images_is_unread(self) -> None:
        vision = sum(each.numel() for name, each in model_of("git").named_parameters() if "image_encoder" in name)
        assert counted_of("git").weights["unread"]["parameters"] >= vision > 0

    def test_attention_to_an_encoder_that_is_not_there_is_unread(self) -> None:
        crossing = [each for name, each in model_of("bart").named_parameters() if "encoder_attn" in name]
        assert sum(map(torch.Tensor.numel, crossing)) == counted_of("bart").weights["unread"]["parameters"]

    def test_layers_that_run_several_times_are_read_once_and_multiplied_as_often(self) -> None:
        linear = counted_of("hrm_text").weights["linear"]
        assert linear["products"] > 2 * linear["parameters"]

    @pytest.mark.parametrize("model_type", ["dbrx", "deepseek_v3", "gpt_oss"])
    def test_a_token_meets_two_of_four_experts(self, model_type: str) -> None:
        experts = counted_of(model_type).weights["experts"]
        assert 2 * experts["products"] == experts["multiplied"] > 0

    def test_of_a_head_that_transforms_before_it_projects_both_see_the_last_position_alone(self) -> None:
        model, head = model_of("bert"), counted_of("bert").weights["head"]
        before = model.cls.predictions.transform.dense.weight.numel()
        assert before + model.get_output_embeddings().weight.numel() == head["products"]

    def test_weights_that_only_a_module_knows_count_when_it_is_called(self) -> None:
        """As quantised ones do, and ones that wait on another device: no operator names their place in memory."""

        class Wrapped(torch.nn.Parameter):
            pass

        class Two(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.called, self.idle = (torch.nn.Linear(4, 4, bias=False) for _ in range(2))
                for layer in (self.called, self.idle):
                    layer.weight = Wrapped(layer.weight.data)

        model = Two()
        with torch.no_grad(), PassWatch(model, 3, 1) as watch:
            model.called(torch.ones(3, 4))
        parts = watch.parts()
        assert (16, 16) == (parts["linear"]["products"], parts["unread"]["parameters"])
        assert not watch.sees_all


class TestWithoutAModel:
    def test_latent_attention_costs_its_latent_and_its_turned_part(self) -> None:
        facts = facts_from_config(
            {**SHAPE, **LATENT, "model_type": "deepseek_v3"}, name="m", source="random", dtype="bfloat16"
        )
        assert 4 * (16 + 4) * 2 == facts.kv_bytes_per_token

    def test_layers_of_an_unknown_kind_are_named(self) -> None:
        facts = facts_from_config(
            {**SHAPE, "layer_types": ["full_attention", "wavelet"]}, name="m", source="random", dtype="float32"
        )
        assert "wavelet" in facts.null_reasons["kv_bytes_per_token"]
        assert pass_cost(facts, 1, 5) is None

    def test_a_state_whose_shape_nobody_wrote_down_is_named_with_its_model(self) -> None:
        shape = {**SHAPE, "layer_types": ["linear_attention", "full_attention"], "model_type": "newcomer"}
        facts = facts_from_config(shape, name="m", source="random", dtype="float32")
        assert "newcomer" in facts.null_reasons["kv_bytes_per_token"]
