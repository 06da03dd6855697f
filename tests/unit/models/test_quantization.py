"""Quantised weights: real where the package is installed, one clear line where it is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from kvbench.capabilities import QUANTIZATIONS
from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable
from kvbench.models.loading import load
from kvbench.models.sizing import BUILDERS, predicted_weight_size, quantization_config, require_quantization
from kvbench.models.tokenizers import byte_tokenizer

CPU = torch.device("cpu")
SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
LINEAR = 2 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 256)  # weights of all linear layers but the head
OTHERS = 320 * 128 + (2 * 2 + 1) * 128
ROUTES = [route for route in QUANTIZATIONS.values() if route.package]
ON_A_CPU = [route for route in ROUTES if "cpu" in route.devices]
INSTALLED = [
    pytest.param(
        route.name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(str(route.package)) is None, reason=f"{route.package} is not installed"
        ),
    )
    for route in ON_A_CPU
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("quantised") / "model"
    shape = dict(SHAPE)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(shape.pop("model_type"), **shape), dtype=torch.bfloat16
    )
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.5 / 128**0.5)
    model.save_pretrained(place)
    byte_tokenizer(320).save_pretrained(place)
    return place


def stored(folder: Path, name: str) -> ModelConfig:
    return ModelConfig(name="mine", weights="path", path=str(folder), quantization=name)


def random(name: str) -> ModelConfig:
    return ModelConfig(name="mine", weights="random", architecture=dict(SHAPE), dtype="bfloat16", quantization=name)


@pytest.mark.filterwarnings("ignore")  # the packages' own
@pytest.mark.parametrize("name", INSTALLED)
class TestARoute:
    @pytest.mark.parametrize("source", ["stored", "random"])
    def test_really_holds_fewer_bits_and_still_knows_its_size(self, folder: Path, name: str, source: str) -> None:
        loaded = load(stored(folder, name) if source == "stored" else random(name), CPU)
        codes, plain = LINEAR * QUANTIZATIONS[name].bits // 8, OTHERS * 2
        assert loaded.facts.parameters == LINEAR + OTHERS
        assert loaded.facts.dtype == "bfloat16"
        # the scales are what lies between
        assert codes + plain < loaded.facts.weight_bytes < 1.35 * codes + plain
        assert type(loaded.model.model.layers[0].mlp.up_proj.weight) is not torch.nn.Parameter

    def test_changes_the_logits_a_little(self, folder: Path, name: str) -> None:
        ids = torch.arange(12).unsqueeze(0)
        with torch.inference_mode():
            exact = load(stored(folder, "none"), CPU).model(ids).logits.float()
            rough = load(stored(folder, name), CPU).model(ids).logits.float()
        difference = float((exact - rough).norm() / exact.norm())
        assert 1e-3 < difference < 0.6

    def test_is_predicted_before_it_is_loaded(self, name: str) -> None:
        shape = dict(SHAPE)
        config = AutoConfig.for_model(shape.pop("model_type"), **shape)
        bits = QUANTIZATIONS[name].bits
        assert predicted_weight_size(config, torch.bfloat16, bits=bits).bytes == LINEAR * bits // 8 + OTHERS * 2


class TestWhatIsMissing:
    @pytest.mark.parametrize("name", [route.name for route in ROUTES])
    def test_kernels_are_told_before_anything_is_loaded(self, name: str) -> None:
        with pytest.raises(ModelUnavailable, match=rf"{name}: \w+ has no kernels for mps"):
            require_quantization(name, torch.device("mps"))

    def test_kernels_of_a_gpu_alone_are_told_on_a_cpu(self) -> None:
        with pytest.raises(ModelUnavailable, match="int4_weight_only: torchao has no kernels for cpu; use device=cuda"):
            require_quantization("int4_weight_only", CPU)

    def test_kernels_of_one_type_alone_name_the_key(self) -> None:
        pytest.importorskip("torchao")
        with pytest.raises(ModelUnavailable, match=r"int4_weight_only: .* set model\.dtype=bfloat16"):
            quantization_config("int4_weight_only", torch.float16)

    def test_routes_are_none(self) -> None:
        assert {route.name for route in ROUTES} == set(BUILDERS)
        require_quantization("none", torch.device("mps"))


def test_tensors_that_nobody_asked_for_are_named(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    place = Path(shutil.copytree(folder, tmp_path / "extra"))
    tensors = load_file(place / "model.safetensors")
    save_file({**tensors, "model.vision.weight": torch.ones(2)}, place / "model.safetensors", {"format": "pt"})
    assert ("model.vision.weight",) == load(stored(place, "none"), CPU).unused_tensors
    assert () == load(stored(folder, "none"), CPU).unused_tensors
