"""An adapter of PEFT that lies in a folder is measured on its base, and the record says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from hub_on_localhost import COMMIT
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, BartConfig, T5Config

import kvbench
from kvbench.errors import ModelUnavailable
from kvbench.measured_run import MeasuredRun
from kvbench.model_folder import is_complete
from kvbench.models.loading import load, quietly, split
from kvbench.models.tokenizers import byte_tokenizer

# PEFT asks newer versions of transformers by a name that they call otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
QUICK: dict[str, Any] = {"prompts": [[5, 6, 7]], "new_tokens": 4, "blocks": 1, "warmup": 0, "energy_s": 0.0}


def adapter_on(base: Path, at: Path, **settings: Any) -> Path:
    """A LoRA whose weights are wide enough to change what is written; what the base wrote would show."""
    peft = pytest.importorskip("peft", reason="adapters want the package peft")
    torch.manual_seed(1)
    with quietly():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        lora = peft.LoraConfig(r=4, lora_alpha=256, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        peft.get_peft_model(model, settings.pop("config", lora)).save_pretrained(at)
    return at


@pytest.fixture(scope="module")
def base(saved_llama: Path) -> Path:
    return saved_llama


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter_on(base, tmp_path_factory.mktemp("adapter") / "my-adapter")


@pytest.fixture(scope="module")
def runs(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, MeasuredRun]:
    """The base, the adapter alone, and both in one folder."""
    both = tmp_path_factory.mktemp("both")
    for folder in (base, adapter):
        shutil.copytree(folder, both, dirs_exist_ok=True)
    named = {"base": base, "alone": adapter, "beside": both}
    brief = {**QUICK, "prompts": "a prompt", "step_lane": False, "dtype": "float32", "name": "one"}
    compared = {"alone": "few"}
    return {
        name: kvbench.measure(folder, agreement=compared.get(name, "none"), **brief) for name, folder in named.items()
    }


class TestAnAdapterInAFolder:
    def test_is_applied_whether_its_base_is_there_or_elsewhere(self, runs: dict[str, MeasuredRun], base: Path) -> None:
        tokens = {name: run.arms[0].tokens for name, run in runs.items()}
        assert tokens["base"] != tokens["alone"] == tokens["beside"]
        (compared,) = runs["alone"].comparisons
        assert compared.agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
        parameters = {name: (run.model or {})["parameters"] for name, run in runs.items()}
        # Two matrices per projection: 4 × 32 and 32 × 4 of the query, 4 × 32 and 16 × 4 of the value, in 4 layers.
        assert 4 * (4 * 32 + 32 * 4 + 4 * 32 + 16 * 4) == parameters["alone"] - parameters["base"]
        assert parameters["alone"] == parameters["beside"]

    def test_is_told_in_the_record(self, runs: dict[str, MeasuredRun], base: Path) -> None:
        assert (runs["base"].model or {})["adapter"] is None
        assert "no adapter is applied" == runs["base"].null_reasons["/model/adapter"]
        for name in ("alone", "beside"):
            expected = {"type": "LORA", "rank": 4, "base": str(base)}
            assert expected == (runs[name].model or {})["adapter"]
            (said,) = (each.detail for each in runs[name].warnings if each.code == "adapter")
            assert f"an adapter (LORA of rank 4) of {base} is applied" in said

    def test_computes_what_is_predicted_of_it(self, runs: dict[str, MeasuredRun]) -> None:
        for run in runs.values():
            assert run.flops_check is not None
            assert run.flops_check.predicted == run.flops_check.counted

    def test_is_not_compared_with_its_base(self, runs: dict[str, MeasuredRun]) -> None:
        keys = {name: run.keys.compare_key for name, run in runs.items()}
        assert keys["base"] != keys["alone"] == keys["beside"]

    def test_writes_with_the_base_s_tokenizer(self, adapter: Path) -> None:
        assert ["a", "b"] == split(spec(adapter), "ab")[-2:]

    def test_is_found_in_the_hub_s_cache_with_its_base(
        self, base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        for name, folder in (("base", base), ("tuned", adapter)):
            repository = tmp_path / f"models--some-org--{name}"
            snapshot = shutil.copytree(folder, repository / "snapshots" / COMMIT)
            (repository / "refs").mkdir()
            (repository / "refs" / "main").write_text(COMMIT)
        stated = snapshot / "adapter_config.json"
        stated.write_text(json.dumps({**json.loads(stated.read_text()), "base_model_name_or_path": "some-org/base"}))
        run = kvbench.measure("some-org/tuned", **QUICK, step_lane=False)
        model = run.model or {}
        assert ("some-org/tuned", COMMIT, "some-org/base") == (model["id"], model["revision"], model["adapter"]["base"])
        (snapshot / "adapter_model.safetensors").unlink()
        assert not is_complete(snapshot)
        with pytest.raises(ModelUnavailable, match="part of the weights of some-org/tuned is not in the local cache"):
            kvbench.measure("some-org/tuned")

    def test_of_learnt_tokens_is_refused(self, base: Path, tmp_path: Path) -> None:
        peft = pytest.importorskip("peft", reason="adapters want the package peft")
        learnt = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        folder = adapter_on(base, tmp_path / "prompt", config=learnt)
        with pytest.raises(ModelUnavailable, match="puts learnt tokens in front of every prompt"):
            kvbench.measure(folder)

    def test_with_damaged_weights_is_named(self, adapter: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(adapter, tmp_path / "damaged")
        (folder / "adapter_model.safetensors").write_bytes(b"no safetensors")
        with pytest.raises(ModelUnavailable, match=r"damaged|can do nothing with adapter_config\.json"):
            kvbench.measure(folder)


class TestALoadedModel:
    def test_inside_of_peft_tells_its_adapter_too(self, base: Path, adapter: Path) -> None:
        peft = pytest.importorskip("peft", reason="adapters want the package peft")
        with quietly():
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
            wrapped = peft.PeftModel.from_pretrained(model, adapter)
        run = kvbench.measure(wrapped, **QUICK, step_lane=False)
        assert ("LORA", 4) == tuple((run.model or {})["adapter"][name] for name in ("type", "rank"))
        assert {"adapter", "peft_wrapper"} <= {each.code for each in run.warnings}

    def test_that_torch_compiled_is_measured(self, base: Path) -> None:
        with quietly():
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        alone = kvbench.measure(model, **QUICK, step_lane=False, agreement="none")
        with torch.compiler.set_stance("force_eager"):  # the wrapper without its half a minute of tracing
            wrapped = kvbench.measure(torch.compile(model), **QUICK, step_lane=False, agreement="none")
        assert alone.arms[0].tokens == wrapped.arms[0].tokens == wrapped.arms[1].tokens


SMALL_T5 = T5Config(vocab_size=320, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
SMALL_BART = BartConfig(
    vocab_size=320, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
    decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=256,
)  # fmt: skip


@pytest.mark.parametrize("config", [SMALL_T5, SMALL_BART], ids=["T5", "BART"])
def test_a_checkpoint_of_an_encoder_decoder_is_called_one(config: Any, tmp_path: Path) -> None:
    """BART's was said to have a wrong config.json: a causal class of its name would load the decoder alone."""
    with quietly():
        AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
        byte_tokenizer(320).save_pretrained(tmp_path)
    with pytest.raises(ModelUnavailable, match=r"ForConditionalGeneration\) is an encoder-decoder, which writes"):
        kvbench.measure(tmp_path)


def test_the_decoder_alone_of_such_a_family_is_measured(tmp_path: Path) -> None:
    with quietly():
        AutoModelForCausalLM.from_config(SMALL_BART).save_pretrained(tmp_path)
        byte_tokenizer(320).save_pretrained(tmp_path)
        loaded = load(spec(tmp_path), torch.device("cpu"))
    assert "BartForCausalLM" == type(loaded.model).__name__


def spec(folder: Path) -> Any:
    from kvbench.config.schema import ModelConfig

    return ModelConfig(name="path", weights="path", path=str(folder))
