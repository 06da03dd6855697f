"""What a configuration names is loaded ready to decode, or refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from os import mkfifo
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from transformers import GPT2Tokenizer

from kvbench.config.schema import ModelConfig
from kvbench.errors import DeviceUnavailable, Infeasible, ModelUnavailable
from kvbench.models import checkpoint, devices
from kvbench.models.loading import adopt, load

CPU = torch.device("cpu")
SMALL = {
    "model_type": "llama", "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
OWN_CONFIG = """
from transformers import LlamaConfig
class OwnConfig(LlamaConfig):
    model_type = "own"
"""
OWN_MODEL = """
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def from_path(folder, **changes):
    return load(ModelConfig(name="path", weights="path", path=str(folder), **changes), CPU)


def at_random(**changes):
    return load(ModelConfig(**{"name": "small", "weights": "random", "architecture": SMALL, **changes}), CPU)


def logits(model):
    with torch.inference_mode():
        return model(torch.arange(20)[None]).logits


def refusal(call):
    with pytest.raises(ModelUnavailable) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestAFolder:
    def test_is_ready_to_decode(self, saved_llama):
        loaded = from_path(saved_llama)
        assert not loaded.model.training
        assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
        assert loaded.tokenizer.decode(loaded.tokenizer("é")["input_ids"]) == "é"
        assert loaded.load_s > 0

    def test_keeps_the_type_it_was_saved_in(self, saved_llama):
        assert from_path(saved_llama).model.dtype is torch.float16

    def test_takes_another_type_when_asked(self, saved_llama):
        loaded = from_path(saved_llama, dtype="float64")
        assert loaded.model.dtype is torch.float64
        assert loaded.facts.kv_bytes_per_token == 2 * 2 * 8 * 8 * 4

    def test_in_shards_holds_the_same_model(self, saved_llama, sharded_folder):
        assert torch.equal(logits(from_path(saved_llama).model), logits(from_path(sharded_folder).model))

    def test_has_facts(self, saved_llama):
        facts = from_path(saved_llama).facts
        assert (facts.source, facts.model_type, facts.dtype, facts.revision) == ("path", "llama", "float16", None)
        assert facts.parameters * 2 == facts.weight_bytes

    def test_is_loaded_in_silence(self, saved_llama, capfd):
        from_path(saved_llama)
        assert capfd.readouterr() == ("", "")

    def test_is_spread_by_accelerate_when_asked(self, saved_llama):
        plain, spread = (from_path(saved_llama, device_map=choice).model for choice in (None, "auto"))
        for expected, actual in zip(plain.parameters(), spread.parameters(), strict=True):
            assert torch.equal(expected, actual.to("cpu"))

    def test_of_the_embedded_model_is_loaded_in_float32_unless_told_otherwise(self, saved_llama, monkeypatch):
        monkeypatch.setattr(checkpoint, "EMBEDDED", saved_llama)
        for dtype, expected in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
            assert load(ModelConfig(name="embedded", weights="embedded", dtype=dtype), CPU).model.dtype is expected


class TestAFolderIsRefused:
    def test_when_it_does_not_exist(self, tmp_path):
        assert refusal(lambda: from_path(tmp_path / "gone")).endswith("gone: no such folder")

    def test_without_a_config(self, tmp_path):
        assert "has no config.json" in refusal(lambda: from_path(tmp_path))

    def test_without_weights(self, llama_folder):
        (llama_folder / "model.safetensors").rename(llama_folder / "consolidated.pth")
        assert "neither model.safetensors nor pytorch_model.bin" in refusal(lambda: from_path(llama_folder))

    def test_with_pickled_weights_that_are_more_than_tensors(self, llama_folder):
        (llama_folder / "model.safetensors").unlink()
        torch.save({"lm_head.weight": Path("a program could be here")}, llama_folder / "pytorch_model.bin")
        assert "holds more than tensors and is not loaded" in refusal(lambda: from_path(llama_folder))

    def test_with_a_missing_shard_which_is_named(self, sharded_folder):
        shards = sorted(sharded_folder.glob("model-*"))
        shards[1].unlink()
        expected = f"lacks 1 of {len(shards)} weight files, {shards[1].name} first"
        assert expected in refusal(lambda: from_path(sharded_folder))

    def test_with_missing_tensors_which_are_named(self, llama_folder, edit_config):
        edit_config(llama_folder, num_hidden_layers=5)
        sentence = refusal(lambda: from_path(llama_folder))
        assert "lack 9 tensors" in sentence
        assert "model.layers.4." in sentence

    def test_with_weights_of_other_shapes(self, llama_folder, edit_config):
        edit_config(llama_folder, intermediate_size=80)
        assert "do not have the shapes" in refusal(lambda: from_path(llama_folder))

    @pytest.mark.parametrize("kept", [4, 1000])
    def test_with_truncated_weights(self, llama_folder, kept):
        weights = llama_folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:kept])
        assert "model.safetensors: is damaged" in refusal(lambda: from_path(llama_folder))

    @pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
    def test_with_a_damaged_config(self, llama_folder, content):
        (llama_folder / "config.json").write_bytes(content)
        assert "is damaged" in refusal(lambda: from_path(llama_folder))

    def test_with_a_damaged_index(self, sharded_folder):
        (sharded_folder / "model.safetensors.index.json").write_text("{")
        assert "is damaged" in refusal(lambda: from_path(sharded_folder))

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("config.json", b"null"),
            ("config.json", b"[" * 100_000),
            ("tokenizer.json", b"\x80"),
            ("tokenizer_config.json", b"[]"),
        ],
    )
    def test_with_a_file_that_is_no_json_object_and_is_named(self, llama_folder, name, content):
        (llama_folder / name).write_bytes(content)
        assert refusal(lambda: from_path(llama_folder)).startswith(f"{llama_folder / name}: is damaged, ")

    @pytest.mark.parametrize(
        ("files", "reason"),
        [
            (None, "names no file for each tensor"),
            ([], "names no file for each tensor"),
            ({"lm_head.weight": 3}, "names no file for each tensor"),
            ({"lm_head.weight": "../../secret"}, "names the file '../../secret', which is not in this folder"),
        ],
    )
    def test_with_an_index_of_no_files_of_its_own(self, sharded_folder, files, reason):
        index = sharded_folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": files}))
        sentence = refusal(lambda: from_path(sharded_folder))
        assert str(index) in sentence
        assert reason in sentence

    @pytest.mark.parametrize(
        "change",
        [
            {"num_hidden_layers": 10**9},
            {"num_labels": 10**9},
            {"num_hidden_layers": -1},
            {"vocab_size": 0},
            {"hidden_size": -32},
            {"sliding_window": -1e7},
            {"num_key_value_heads": 0.5},
            {"max_position_embeddings": 2**63},
        ],
    )
    def test_with_sizes_that_no_model_has_before_anything_is_built(
        self, llama_folder, edit_config, monkeypatch, change
    ):
        monkeypatch.setattr(
            "kvbench.models.checkpoint.AutoConfig.from_pretrained", lambda *_, **__: pytest.fail("built")
        )
        edit_config(llama_folder, **change)
        ((name, value),) = change.items()
        assert refusal(lambda: from_path(llama_folder)).startswith(f"config.json of {llama_folder}: {name}={value} ")

    @pytest.mark.parametrize("change", [{"num_attention_heads": 0}, {"pad_token_id": 400}, {"dtype": "float1"}])
    def test_with_a_config_that_transformers_can_do_nothing_with(self, llama_folder, edit_config, change):
        edit_config(llama_folder, **change)
        sentence = refusal(lambda: from_path(llama_folder))
        assert "config" in sentence
        assert str(llama_folder) in sentence

    @pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
    def test_with_weights_that_are_no_file(self, llama_folder, kind):
        weights = llama_folder / "model.safetensors"
        weights.unlink()
        make = {"folder": weights.mkdir, "link": lambda: weights.symlink_to("nothing"), "pipe": lambda: mkfifo(weights)}
        make[kind]()
        assert f"model.safetensors of {llama_folder} is no file" in refusal(lambda: from_path(llama_folder))

    @pytest.mark.parametrize("tensors", [{"lm_head.weight": 3}, [1], None])
    def test_with_pickled_weights_that_are_no_tensors(self, llama_folder, tensors):
        (llama_folder / "model.safetensors").unlink()
        torch.save(tensors, llama_folder / "pytorch_model.bin")
        assert f"pytorch_model.bin of {llama_folder}" in refusal(lambda: from_path(llama_folder))

    def test_with_an_impossible_config(self, llama_folder, edit_config):
        edit_config(llama_folder, hidden_size=30)
        assert "not a multiple of the number of attention heads" in refusal(lambda: from_path(llama_folder))

    def test_without_a_tokenizer(self, llama_folder):
        for file in llama_folder.glob("tokenizer*"):
            file.unlink()
        assert "the tokenizer of" in refusal(lambda: from_path(llama_folder))

    def test_with_a_tokenizer_that_its_class_makes_of_nothing(self, llama_folder, monkeypatch):
        empty = GPT2Tokenizer()
        monkeypatch.setattr("kvbench.models.loading.AutoTokenizer.from_pretrained", lambda *_, **__: empty)
        assert f"the tokenizer of {llama_folder} has no words" in refusal(lambda: from_path(llama_folder))

    def test_with_a_damaged_tokenizer(self, llama_folder):
        (llama_folder / "tokenizer.json").write_text("{")
        assert "is damaged" in refusal(lambda: from_path(llama_folder))

    def test_with_a_tokenizer_that_can_be_read_and_not_used(self, llama_folder):
        settings = llama_folder / "tokenizer_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": {}}))
        assert "can do nothing with tokenizer.json of" in refusal(lambda: from_path(llama_folder))

    def test_of_an_unknown_architecture(self, llama_folder, edit_config):
        edit_config(llama_folder, model_type="from_the_future")
        assert "does not know: update transformers" in refusal(lambda: from_path(llama_folder))

    def test_that_names_no_architecture(self, llama_folder):
        (llama_folder / "config.json").write_text("{}")
        assert "names no model_type" in refusal(lambda: from_path(llama_folder))

    def test_of_a_model_that_does_not_generate(self, llama_folder):
        (llama_folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
        assert "is not a causal language model" in refusal(lambda: from_path(llama_folder))


class TestCodeThatComesWithAModel:
    @pytest.fixture
    def folder(self, llama_folder, edit_config, monkeypatch, tmp_path):
        edit_config(
            llama_folder,
            model_type="own",
            auto_map={"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"},
        )
        (llama_folder / "configuration_own.py").write_text(OWN_CONFIG)
        (llama_folder / "modeling_own.py").write_text(OWN_MODEL)
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
        return llama_folder

    def test_is_not_run_unasked(self, folder):
        assert "model.trust_remote_code=true allows it" in refusal(lambda: from_path(folder))

    def test_runs_when_trusted(self, folder):
        assert type(from_path(folder, trust_remote_code=True).model).__name__ == "OwnModel"

    def test_that_needs_a_missing_package_says_which(self, folder):
        (folder / "configuration_own.py").write_text("import a_package_nobody_has\n" + OWN_CONFIG)
        assert "a_package_nobody_has" in refusal(lambda: from_path(folder, trust_remote_code=True))


class TestAModelOfTheHub:
    @pytest.fixture
    def cached(self, monkeypatch, tmp_path, llama_folder):
        commit = "f" * 40
        repository = tmp_path / "cache" / "models--org--name"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots").mkdir()
        llama_folder.rename(repository / "snapshots" / commit)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        return commit

    def test_loads_offline_from_the_cache_and_knows_its_commit(self, cached):
        facts = load(ModelConfig(name="hub", id="org/name"), CPU).facts
        assert ("hub", "org/name", cached) == (facts.source, facts.id, facts.revision)

    def test_lends_its_shape_to_random_weights(self, cached):
        loaded = at_random(id="org/name", architecture=None)
        assert ("random", cached, 4) == (loaded.facts.source, loaded.facts.revision, loaded.facts.layers)

    def test_that_is_not_in_the_cache_is_refused(self, cached):
        sentence = refusal(lambda: load(ModelConfig(name="hub", id="org/other"), CPU))
        assert "org/other is not in the local cache" in sentence


class TestRandomWeights:
    def test_have_the_shape_asked_for_and_a_tokenizer_of_bytes(self):
        loaded = at_random()
        assert loaded.facts.layers == 2
        assert loaded.tokenizer("é")["input_ids"] == list("é".encode())
        assert max(loaded.tokenizer.get_vocab().values()) < loaded.facts.vocab_size

    def test_take_the_type_that_the_architecture_states(self):
        assert at_random(architecture={**SMALL, "dtype": "bfloat16"}).model.dtype is torch.bfloat16
        assert at_random(architecture={**SMALL, "dtype": "bfloat16"}, dtype="float64").model.dtype is torch.float64
        assert at_random().model.dtype is torch.float32

    def test_follow_the_seed(self):
        first, same, other = (at_random(seed=seed).model.lm_head.weight for seed in (1, 1, 2))
        assert torch.equal(first, same)
        assert not torch.equal(first, other)

    def test_take_the_shape_of_a_local_config(self, saved_llama):
        assert at_random(architecture=None, path=str(saved_llama)).facts.layers == 4

    def test_of_an_unknown_architecture_are_refused(self):
        sentence = refusal(lambda: at_random(id="IEITYuan/Yuan2-2B-hf", architecture={"model_type": "from_the_future"}))
        assert sentence.startswith("IEITYuan/Yuan2-2B-hf has an architecture")

    def test_without_a_model_type_are_refused(self):
        assert "has no model_type" in refusal(lambda: at_random(architecture={"hidden_size": 8}))

    def test_of_a_type_that_torch_does_not_know_are_refused(self):
        assert "float99" in refusal(lambda: at_random(architecture={**SMALL, "dtype": "float99"}))


class TestWhatDoesNotFitIsRefusedBeforeItIsBuilt:
    def test_weights(self):
        huge = {**SMALL, "hidden_size": 2**16, "intermediate_size": 2**18, "num_hidden_layers": 100}
        with pytest.raises(Infeasible, match=r"small in float32: \d+\.\d\d GiB needed, \d+\.\d\d GiB free on cpu"):
            at_random(architecture=huge)

    def test_stored_weights(self, saved_llama, monkeypatch):
        monkeypatch.setattr(devices, "free_bytes", lambda device: 2**10)
        with pytest.raises(Infeasible, match="predicted not to fit"):
            load(ModelConfig(name="path", weights="path", path=str(saved_llama)), CPU)

    def test_a_type_that_the_device_lacks(self, saved_llama):
        spec = ModelConfig(name="path", weights="path", path=str(saved_llama), dtype="float64")
        with pytest.raises(DeviceUnavailable, match="float64"):
            load(spec, torch.device("mps"))


def test_a_model_loaded_by_the_caller_is_adopted_as_it_is(saved_llama):
    loaded = from_path(saved_llama)
    loaded.model.train()
    adopted = adopt(loaded.model, loaded.tokenizer, "theirs")
    assert adopted.model is loaded.model
    assert adopted.model.training
    assert adopted.facts == replace(loaded.facts, name="theirs")


def test_an_error_nobody_foresaw_keeps_its_own_words_and_names_what_was_read(saved_llama: Path, monkeypatch):
    def fail(*args, **kwargs):
        raise Exception("a bug")  # as the package tokenizers does

    monkeypatch.setattr("kvbench.models.loading.AutoTokenizer.from_pretrained", fail)
    sentence = refusal(lambda: from_path(saved_llama))
    assert f"can do nothing with tokenizer.json of {saved_llama} (Exception: a bug)" in sentence


def test_memory_that_runs_out_is_no_fault_of_the_folder(saved_llama: Path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr("kvbench.models.loading.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(RuntimeError, match="can't allocate"):
        from_path(saved_llama)


def test_pytorch_weights_are_loaded_where_there_are_no_safetensors(llama_folder):
    from safetensors.torch import load_file

    tensors = load_file(llama_folder / "model.safetensors")
    expected = from_path(llama_folder).model.state_dict()
    torch.save(tensors, llama_folder / "pytorch_model.bin")
    (llama_folder / "model.safetensors").unlink()
    got = from_path(llama_folder).model.state_dict()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
