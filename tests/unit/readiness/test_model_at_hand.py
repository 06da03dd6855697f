"""A model's folder, the offline cache, prompt lengths and a factory's name, told without torch."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest

from kvbench.config.compose import load_config, sources
from kvbench.config.schema import ModelConfig
from kvbench.errors import BadInput, ModelUnavailable
from kvbench.model_folder import cached_commit
from kvbench.readiness import found_folder, ready_plan, require_target, stated_context

COMMIT = "f" * 40


def refusal(*overrides: str) -> str | None:
    """What is said of a configuration before anything is loaded; None when nothing is."""
    try:
        ready_plan(load_config(list(overrides), sources()))
    except BadInput as error:
        return str(error)
    return None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that must not be asked, and a cache with the config of one repository."""
    snapshot = tmp_path / "cache" / "models--org--name" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


class TestTheOfflineCache:
    def test_that_has_the_model_is_enough(self, cache: Path) -> None:
        (cache / "model.safetensors").touch()
        assert cache == found_folder(ModelConfig(name="hub", id="org/name"))

    @pytest.mark.parametrize(
        ("model", "missing"),
        [
            (ModelConfig(name="hub", id="org/other"), "and org/other is not"),
            (ModelConfig(name="hub", id="org/name"), "part of the weights of org/name is not"),
            (ModelConfig(name="hub", id="org/name", revision="dev"), "org/name at revision dev is not"),
            (ModelConfig(name="hub", id="org/other", weights="random"), "the config.json of org/other is not"),
        ],
    )
    def test_that_lacks_it_is_named(self, cache: Path, model: ModelConfig, missing: str) -> None:
        with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE is set") as refused:
            found_folder(model)
        assert missing in str(refused.value)
        # What was done already is never the advice.
        assert ("use model.weights=random" in str(refused.value)) <= (model.weights != "random")
        assert str(cache.parents[2]) in str(refused.value)

    def test_is_enough_for_a_shape_without_weights(self, cache: Path) -> None:
        assert cache == found_folder(ModelConfig(name="hub", id="org/name", weights="random"))

    def test_is_not_asked_where_the_hub_may_be(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        assert found_folder(ModelConfig(name="hub", id="org/other")) is None

    def test_tells_the_commit_of_a_branch(self, cache: Path) -> None:
        assert [COMMIT, COMMIT, None, None] == [
            cached_commit("org/name", None),
            cached_commit("org/name", COMMIT),
            cached_commit("org/name", "dev"),
            cached_commit("no/such/id", None),
        ]


class TestAFolder:
    @pytest.mark.parametrize("weights", ["path", "random"])
    def test_that_does_not_exist_or_holds_no_model_is_refused(self, tmp_path: Path, weights: str) -> None:
        model = ModelConfig(name="path", weights=weights, path=str(tmp_path / "no"))
        with pytest.raises(ModelUnavailable, match=r"model.path=.*/no: no such folder"):
            found_folder(model)
        model.path = str(tmp_path)
        with pytest.raises(ModelUnavailable, match=r"has no config.json: it is not a transformers folder"):
            found_folder(model)


class TestLengths:
    def test_beyond_the_context_are_refused(self) -> None:
        assert refusal("workload.prompt_tokens=4096") == (
            "workload.prompt_tokens=4096: embedded reads at most 4096 tokens: lower it"
        )
        assert refusal("workload.prompt_tokens=4000", "workload.new_tokens=97") == (
            "workload.new_tokens=97: with a prompt of 4000 tokens embedded has room for 96 (context 4096)"
        )
        assert refusal("workload.prompt_tokens=4000", "workload.new_tokens=96") is None

    def test_of_texts_are_counted_by_the_tokenizer(self, tmp_path: Path) -> None:
        prompts = tmp_path / "long.txt"
        prompts.write_text("short\n" + "a line of words and of 1234 numbers " * 1000)
        assert "prompt 2 has " in (refusal(f"workload.prompts={prompts}") or "")
        prompts.write_text("word " * 1000)
        assert refusal(f"workload.prompts={prompts}") is None

    @pytest.mark.parametrize(
        ("config", "context"),
        [
            ({"max_position_embeddings": 64}, 64),
            ({"n_positions": 64}, 64),
            ({"text_config": {"max_position_embeddings": 64}}, 64),
            ({"n_ctx": 64}, None),
            ({"max_position_embeddings": 64, "n_positions": 32}, None),
            ({"max_position_embeddings": 64, "auto_map": {}}, None),
            ({"max_position_embeddings": 64, "decoder": {}}, None),
            ([], None),
        ],
    )
    def test_are_held_against_what_the_config_states_beyond_doubt(
        self, tmp_path: Path, config: object, context: int | None
    ) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert context == stated_context(tmp_path)

    def test_are_the_worker_s_to_judge_where_the_config_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("[" * 100_000)
        assert stated_context(tmp_path) is None


class TestATarget:
    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("def make(): ...\n", None),
            ("if True:\n    from json import loads as make\n", None),
            ("from json import *\n", None),
            ("globals()['make'] = 1\n", None),
            ("def __getattr__(name): ...\n", None),
            ("def (:", None),
            ("def makes(): ...\n", "own_module_of_test has no make; did you mean makes?"),
            (None, "there is no module own_module_of_test in "),
        ],
    )
    def test_is_refused_where_nothing_can_have_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, complaint: str | None
    ) -> None:
        monkeypatch.chdir(tmp_path)
        if text is not None:
            (tmp_path / "own_module_of_test.py").write_text(text)
        before = list(sys.path)
        model = ModelConfig(name="python", weights="python", target="own_module_of_test:make")
        if complaint is None:
            require_target(model)
        else:
            with pytest.raises(ModelUnavailable, match=r"model\.target=own_module_of_test:make: ") as refused:
                require_target(model)
            assert complaint in str(refused.value)
        assert before == sys.path
        assert "own_module_of_test" not in sys.modules


class TestAnAdapter:
    def folder(self, at: Path, *, with_base: bool) -> Path:
        (at / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
        if with_base:
            (at / "config.json").write_text("{}")
            (at / "model.safetensors").touch()
        return at

    @pytest.fixture(params=[True, False], ids=["peft", "no peft"])
    def installed(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: request.param or None if name == "peft" else find(name)
        )
        return bool(request.param)

    def said(self, folder: Path) -> str:
        return refusal("model=path", f"model.path={folder}") or ""

    def test_alone_wants_peft_and_then_its_weights_and_its_base(self, tmp_path: Path, installed: bool) -> None:
        folder = self.folder(tmp_path, with_base=False)
        if not installed:
            assert "is an adapter of org/base (adapter_config.json), which is not applied" in self.said(folder)
            assert "pip install peft, or measure the base" in self.said(folder)
            return
        assert "it lacks adapter_model.safetensors" in self.said(folder)
        (folder / "adapter_model.safetensors").touch()
        assert "HF_HUB_OFFLINE is set, and org/base is not in the local cache" in self.said(folder)
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/gone/base"}))
        assert "is an adapter of /gone/base, and there is no such folder here" in self.said(folder)
        (folder / "adapter_config.json").write_text("{}")
        assert "is an adapter that does not name its base: write it as base_model_name_or_path" in self.said(folder)
        (folder / "adapter_config.json").write_text("{")
        assert "is damaged, it is not JSON" in self.said(folder)

    def test_on_a_base_without_weights_is_refused_by_the_base_s_name(self, tmp_path: Path) -> None:
        pytest.importorskip("peft")
        (tmp_path / "base").mkdir()
        folder = self.folder(tmp_path, with_base=False)
        (folder / "adapter_model.safetensors").touch()
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path / "base")}))
        assert f"the base of {folder}, {tmp_path / 'base'}, has no config.json" in self.said(folder)

    def test_beside_its_base_is_not_left_out_in_silence(self, tmp_path: Path, installed: bool) -> None:
        folder = self.folder(tmp_path, with_base=True)
        (folder / "adapter_model.safetensors").touch()
        said = self.said(folder)
        assert ("holds an adapter beside its base" in said) is not installed
        assert ("pip install peft" in said) is not installed


def test_dynamic_ntk_states_no_context(tmp_path: Path) -> None:
    for kind, expected in (("dynamic", None), ("linear", 64)):
        shape = {"max_position_embeddings": 64, "rope_scaling": {"type": kind, "factor": 2.0}}
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(shape))
        assert expected == stated_context(folder)
