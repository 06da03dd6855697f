"""What is no decoder of text is refused in a sentence; wrappers around one are looked into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, T5Config

import kvbench
from kvbench.errors import ConfigError, ModelUnavailable
from kvbench.models.signature import signature_of, transformers_model
from kvbench.models.unsuited import require_decoder, require_own_generate, without_peft
from kvbench.running import preconditions

TinyModel = Callable[..., Any]
QUICK: dict[str, Any] = {"new_tokens": 3, "blocks": 1, "warmup": 0, "step_lane": False, "energy_s": 0.0}


class HandsOn(torch.nn.Module):
    """A wrapper that hands on what it does not know, as PEFT's and torch.compile's do."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return (
            super().__getattr__(name) if name in ("inner", "_modules") else getattr(super().__getattr__("inner"), name)
        )

    def forward(self, input_ids: Any = None, **arguments: Any) -> Any:
        return self.inner(input_ids=input_ids, **arguments)


class Assistant(torch.nn.Module):
    def forward(self, inputs_embeds: Any = None, shared_kv_states: Any = None) -> None: ...


class Codes(torch.nn.Module):
    num_codebooks, lm_heads = 4, ()

    def forward(self, input_ids: Any) -> None: ...


class Patches(torch.nn.Module):
    class Model(torch.nn.Module):
        patcher = None

    def __init__(self) -> None:
        super().__init__()
        self.model = self.Model()

    def forward(self, input_ids: Any, cache: Any = None) -> None: ...


class Rereads(torch.nn.Module):
    def forward(self, input_ids: Any, langs: Any = None, lengths: Any = None, cache: Any = None) -> None: ...


def t5() -> Any:
    return AutoModelForSeq2SeqLM.from_config(
        T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    )


class TestWhatDecodesNoTextByItself:
    @pytest.mark.parametrize(
        ("made", "said"),
        [
            (t5, "T5ForConditionalGeneration is an encoder-decoder"),
            (Assistant, "Assistant is an assistant, which reads the keys and values of the model that it drafts for"),
            (Codes, "Codes writes several streams of audio codes"),
            (Patches, "Patches cuts its bytes into patches"),
            (Rereads, "Rereads takes every token of the text beside its cache, .* use mode=nocache"),
        ],
    )
    def test_is_refused_in_a_sentence(self, made: Callable[[], Any], said: str) -> None:
        with pytest.raises(ModelUnavailable, match=said):
            require_decoder(made(), with_past=True)

    def test_recompute_needs_no_cache(self) -> None:
        for model in (Patches(), Rereads()):
            require_decoder(model, with_past=False)

    def test_has_no_head(self, tiny_model: TinyModel) -> None:
        model = tiny_model("llama", num_hidden_layers=1)
        require_decoder(model, with_past=True)
        with pytest.raises(ModelUnavailable, match="LlamaModel has no head that gives logits of tokens"):
            kvbench.measure(model.model, prompts=[[5, 6, 7]], **QUICK)

    def test_copies_of_a_model_are_refused_by_name(self, tiny_model: TinyModel) -> None:
        with pytest.raises(ConfigError, match=r"DataParallel .* pass the model inside, model\.module"):
            kvbench.measure(torch.nn.DataParallel(tiny_model("llama", num_hidden_layers=1)))


def test_layers_without_a_static_kind_are_refused_by_name(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_layer(**_: Any) -> None:
        raise KeyError("heavily_compressed_attention")

    monkeypatch.setattr(preconditions, "StaticCache", no_such_layer)
    arms = [{"mode": "cached", "cache": "static"}]
    with pytest.raises(
        ModelUnavailable, match=r"cache=static: transformers makes no static cache .*heavily_compressed"
    ):
        kvbench.measure(tiny_model("llama", num_hidden_layers=1), prompts=[[5, 6]], arms=arms, **QUICK)


def test_a_model_that_attends_to_no_more_keys_than_tokens_takes_no_static_cache(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ProphetNet's run ended in torch's words about tensors of two sizes."""
    assert "prophetnet" in preconditions.NO_STATIC_CACHE
    monkeypatch.setitem(preconditions.NO_STATIC_CACHE, "llama", "why")
    arms = [{"mode": "cached", "cache": "static"}]
    with pytest.raises(ModelUnavailable, match=r"cache=static: LlamaForCausalLM takes no cache .* \(why\): use"):
        kvbench.measure(tiny_model("llama", num_hidden_layers=1), prompts=[[5, 6]], arms=arms, **QUICK)


class TestAWrapper:
    def test_is_called_by_the_names_of_the_model_inside(self, tiny_model: TinyModel) -> None:
        model = tiny_model("llama", num_hidden_layers=1)
        for wrapped in (HandsOn(model), torch.compile(model, backend="eager")):
            assert signature_of(model) == signature_of(wrapped)
            assert model is transformers_model(wrapped)
            with pytest.raises(ModelUnavailable, match="generate runs the LlamaForCausalLM inside"):
                require_own_generate(wrapped)
        require_own_generate(model)

    def test_is_measured(self, tiny_model: TinyModel) -> None:
        record = kvbench.measure(HandsOn(tiny_model("llama", num_hidden_layers=1)), prompts=[[5, 6, 7]], **QUICK)
        assert record.comparison is not None
        assert record.comparison.agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")

    @pytest.mark.slow
    def test_of_torch_compile_is_measured(self, tiny_model: TinyModel) -> None:
        compiled = torch.compile(tiny_model("llama", num_hidden_layers=1), backend="eager")
        record = kvbench.measure(compiled, prompts=[[5, 6, 7]], **QUICK)
        assert record.comparison is not None
        assert record.comparison.agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")


class TestPeft:
    @pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft reads the older name
    def test_s_wrapper_is_left_out_and_the_record_says_so(self, tiny_model: TinyModel) -> None:
        peft = pytest.importorskip("peft")
        base = tiny_model("llama", num_hidden_layers=1)
        lora = peft.LoraConfig(
            lora_alpha=512, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False
        )
        wrapped = peft.get_peft_model(base, lora)
        prompts = [[5, 6, 7]]
        record = kvbench.measure(wrapped, prompts=prompts, modes=("nocache", "cached", "generate"), **QUICK)
        assert {"IDENTICAL", "EQUAL_WITHIN_ROUNDING"} >= {each.agreement.verdict for each in record.comparisons}
        assert "peft_wrapper" in {warning.code for warning in record.warnings}
        with wrapped.disable_adapter():
            plain = kvbench.measure(base, prompts=prompts, modes=("nocache",), **QUICK)
        assert record.arms[0].tokens != plain.arms[0].tokens

    def test_s_learnt_prompts_are_refused(self, tiny_model: TinyModel) -> None:
        class Learnt:
            is_prompt_learning = True

        wrapped = HandsOn(tiny_model("llama", num_hidden_layers=1))
        wrapped.peft_config = {"default": Learnt()}  # type: ignore[assignment]
        with pytest.raises(ModelUnavailable, match="puts learnt tokens in front of every prompt"):
            without_peft(wrapped)
