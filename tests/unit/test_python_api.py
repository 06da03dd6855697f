"""`kvbench.measure` gives the same record as the command line, for a model that is already loaded."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from own_models import nano
from transformers import AutoConfig, AutoModelForCausalLM

import kvbench
from kvbench.errors import BadInput, ConfigError, KvbenchError, ModelUnavailable
from kvbench.models.loading import quietly
from kvbench.models.tokenizers import byte_tokenizer
from kvbench.records.run_record import RunRecord
from kvbench.report.names import format_estimate
from kvbench.running import torch_backend
from kvbench.running.job import Progress


@pytest.fixture
def loaded(tiny_model: Callable[..., Any]) -> tuple[Any, Any]:
    return tiny_model("llama", vocab_size=300), byte_tokenizer(300)


class TestMeasure:
    def test_returns_a_valid_record_of_both_modes(self, loaded: tuple[Any, Any]) -> None:
        record = kvbench.measure(*loaded, "a prompt", new_tokens=6, blocks=5)
        assert isinstance(record, RunRecord)
        assert "ok" == record.status
        assert ["nocache", "cached"] == [arm.mode for arm in record.arms]
        assert record.arms[0].tokens == record.arms[1].tokens
        assert record.arms[1].memory.kv_cache_bytes == record.arms[1].memory.kv_cache_predicted_bytes
        assert record.comparison is not None
        assert record.comparison.agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")

    def test_measures_arms_that_differ_in_any_part(self, loaded: tuple[Any, Any]) -> None:
        arms = [{"mode": "nocache"}, {"mode": "nocache", "bucket": 16}, {"mode": "cached", "cache": "static"}]
        record = kvbench.measure(*loaded, "a prompt", arms=arms, new_tokens=6, blocks=5)
        assert [None, 16, None] == [arm.bucket for arm in record.arms]
        assert "static" == record.arms[2].cache
        # Contexts of 9 to 13 tokens in 16 each, that is 80 for 55.
        assert [0.0, 80 / 55 - 1, None] == [arm.padding_share for arm in record.arms]
        with pytest.raises(ConfigError, match=r"arms\[1\]\.engin: no such key; did you mean engine\? allowed: mode, "):
            kvbench.measure(*loaded, "a", arms=[arms[0], {"mode": "cached", "engin": "compiled"}])
        with pytest.raises(ConfigError, match=r"arms\[0\]\.engine=steam: not known"):
            kvbench.measure(*loaded, "a", arms=[{"mode": "cached", "engine": "steam"}])
        with pytest.raises(ConfigError, match="arms: not with modes or attention"):
            kvbench.measure(*loaded, "a", arms=arms, attention="math")

    def test_a_window_left_over_in_the_config_is_measured_beside_a_cache_that_forgets_nothing(
        self, tiny_model: Callable[..., Any]
    ) -> None:
        model = tiny_model("llama", vocab_size=300, sliding_window=8)  # Llama attends to everything all the same
        arms = ["nocache", "cached", {"mode": "cached", "cache": "full"}, {"mode": "generate", "cache": "full"}]
        brief: dict[str, Any] = {"new_tokens": 4, "blocks": 1, "warmup": 0, "step_lane": False, "energy_s": 0}
        record = kvbench.measure(model, prompts=[list(range(5, 25))], arms=arms, **brief)
        short, *full = record.comparisons
        assert "MISMATCH" == short.agreement.verdict
        assert "cache=full keeps them" in (short.agreement.detail or "")
        assert all(each.agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING") for each in full)
        assert all(each.memory.kv_cache_bytes == each.memory.kv_cache_predicted_bytes for each in record.arms)
        passes = next(each for each in record.checks if each.name == "mode_proof")
        assert passes.passed

    def test_measures_any_modes_prompts_and_batches(self, loaded: tuple[Any, Any]) -> None:
        record = kvbench.measure(
            *loaded, ["one", "another one", "三"], modes=("generate", "cached"), new_tokens=4, batch_size=2, blocks=5
        )
        assert record.workload is not None
        assert 3 == len(record.workload.prompt_tokens) == len(record.arms[0].tokens)
        assert ("generate", "cached") == (record.arms[0].mode, record.arms[1].mode)

    def test_leaves_the_model_as_it_found_it(self, loaded: tuple[Any, Any]) -> None:
        model, tokenizer = loaded
        model.train()
        before = model.config._attn_implementation
        kvbench.measure(model, tokenizer, "a", modes=("cached",), new_tokens=3, blocks=1, attention="eager")
        assert model.training
        assert before == model.config._attn_implementation

    def test_tells_of_its_progress(self, loaded: tuple[Any, Any]) -> None:
        phases: list[str] = []
        kvbench.measure(
            *loaded,
            "a",
            new_tokens=3,
            blocks=2,
            on_event=lambda event: phases.append(event.phase) if isinstance(event, Progress) else None,
        )
        # What the machine did in a first visit decides if that is looked into: the only phase that may be there or not.
        told = [phase for phase in dict.fromkeys(phases) if phase != "first visits explained"]
        assert ["first visit", "memory and proof", "agreement", "warm-up", "blocks", "what a step is made of"] == told

    def test_refuses_what_the_command_line_refuses(self, loaded: tuple[Any, Any]) -> None:
        with pytest.raises(ConfigError, match=r"arms\[0\]\.mode=bogus"):
            kvbench.measure(*loaded, "a", modes=("bogus",))
        with pytest.raises(ConfigError, match=r"workload\.new_tokens=600"):
            kvbench.measure(*loaded, "a", new_tokens=600)


class TestWithoutATokenizer:
    def test_random_ids_are_measured_and_the_record_says_so(self, loaded: tuple[Any, Any]) -> None:
        record = kvbench.measure(loaded[0], prompt_tokens=9, new_tokens=4, blocks=5, batch_size=2, step_lane=False)
        assert ("ok", (9, 9)) == (record.status, record.workload and record.workload.prompt_tokens)
        assert "random_prompts" in {warning.code for warning in record.warnings}
        assert [(), ()] == [arm.texts for arm in record.arms]
        again = kvbench.measure(loaded[0], prompt_tokens=9, new_tokens=4, blocks=1, batch_size=2, step_lane=False)
        assert record.arms[0].tokens == again.arms[0].tokens

    def test_given_ids_are_measured_with_and_without_one(self, loaded: tuple[Any, Any]) -> None:
        quick: dict[str, Any] = {"new_tokens": 3, "blocks": 1, "warmup": 0, "step_lane": False, "modes": ("cached",)}
        bare = kvbench.measure(loaded[0], prompts=[[5, 6, 7], [8, 9]], **quick)
        told = kvbench.measure(*loaded, [[5, 6, 7], [8, 9]], **quick)
        assert bare.workload is not None
        assert (3, 2) == bare.workload.prompt_tokens
        assert bare.workload == told.workload
        assert bare.arms[0].tokens == told.arms[0].tokens
        assert (0, 2) == (len(bare.arms[0].texts), len(told.arms[0].texts))
        assert "no_text" in {warning.code for warning in bare.warnings}
        assert "no_text" not in {warning.code for warning in told.warnings}

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"prompts": "a text"}, "the text 'a text' needs a tokenizer: pass one, or give prompts as token ids"),
            ({"prompts": [[1, 300]]}, "prompt 1 holds the token id 300, and the vocabulary has 300 tokens"),
            ({"prompts": [[1], []]}, "prompt 2 has no tokens"),
            ({"prompts": [1, 2]}, r"prompts: takes a text, a list of texts, or a list of lists of token ids"),
            ({"prompts": [[1]], "stop": ["<eod>"]}, r"workload.stop=\['<eod>'\]: this tokenizer has no such token"),
        ],
    )
    def test_what_needs_one_is_refused_in_a_line(
        self, loaded: tuple[Any, Any], arguments: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(BadInput, match=said):
            kvbench.measure(loaded[0], **arguments)


class TestErrors:
    def test_are_ours_alone_whatever_the_model_raises(
        self, loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise ValueError("a shape does not fit")

        monkeypatch.setattr(loaded[0].model, "forward", broken)
        with pytest.raises(KvbenchError, match="ValueError: a shape does not fit") as raised:
            kvbench.measure(*loaded, "a", new_tokens=3)
        assert isinstance(raised.value.__cause__, ValueError)

    def test_an_argument_of_another_type_is_one_too(self, loaded: tuple[Any, Any]) -> None:
        with pytest.raises(KvbenchError):
            kvbench.measure(*loaded, "a", modes=3)  # type: ignore[arg-type]


class TestThePackage:
    def test_shows_measure(self) -> None:
        assert "measure" in dir(kvbench)
        assert "__version__" in dir(kvbench)

    def test_prints_figures_as_the_terminal_does(self, loaded: tuple[Any, Any]) -> None:
        record = kvbench.measure(*loaded, "a", new_tokens=3, blocks=6, warmup=0, step_lane=False)
        assert record.comparison is not None
        shown = str(record.comparison.speedup)
        assert shown == format_estimate(record.comparison.speedup, "times")
        assert "×" in shown
        for name, unit in (("itl_s", "s"), ("ttft_s", "s"), ("decode_tokens_per_s", "tokens/s")):
            estimate = getattr(record.arms[0], name)
            assert str(estimate) == format_estimate(estimate, unit)
        again = RunRecord.model_validate(record.model_dump())
        assert (str(again.arms[0].itl_s), again) == (str(record.arms[0].itl_s), record)


BRIEF: dict[str, Any] = {"new_tokens": 3, "blocks": 1, "warmup": 0, "step_lane": False, "agreement": "none"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as `save_pretrained` writes it, with its tokenizer."""
    at = tmp_path_factory.mktemp("named") / "my-model"
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    with quietly():
        config = AutoConfig.for_model("llama", **shape, vocab_size=300, max_position_embeddings=64)
        AutoModelForCausalLM.from_config(config).save_pretrained(at)
        byte_tokenizer(300).save_pretrained(at)
    return at


class TestAModelThatIsNamed:
    def test_is_loaded_from_its_folder_by_text_and_by_path(self, folder: Path) -> None:
        by_text = kvbench.measure(str(folder), prompts="a", **BRIEF)
        by_path = kvbench.measure(folder, prompts="a", dtype="float64", name="mine", **BRIEF)
        told = [((run.model or {})["name"], (run.model or {})["dtype"]) for run in (by_text, by_path)]
        assert [("my-model", "float32"), ("mine", "float64")] == told
        assert by_text.arms[0].texts
        assert "path" == (by_text.model or {})["source"]
        (prompt_tokens,) = by_text.workload.prompt_tokens if by_text.workload else ()
        assert 1 == prompt_tokens

    def test_is_found_in_the_hub_s_cache_without_a_connection(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        snapshot = tmp_path / "models--some-org--some-model" / "snapshots" / COMMIT
        shutil.copytree(folder, snapshot)
        (tmp_path / "models--some-org--some-model" / "refs").mkdir()
        for name in ("main", "v1"):
            (tmp_path / "models--some-org--some-model" / "refs" / name).write_text(COMMIT)
        run = kvbench.measure("some-org/some-model", prompts="a", revision="v1", **BRIEF)
        model = run.model or {}
        assert ("some-org/some-model", COMMIT, "hub") == (model["id"], model["revision"], model["source"])
        assert ("some-org--some-model", "v1") == (model["name"], run.config["model"]["revision"])
        with pytest.raises(ModelUnavailable, match="some-org/some-model at revision v2 is not in the local cache"):
            kvbench.measure("some-org/some-model", revision="v2")

    def test_is_the_one_that_comes_along_by_default(self) -> None:
        run = kvbench.measure(prompts="37+48=", **BRIEF)
        assert ("embedded", "float32") == ((run.model or {})["name"], (run.model or {})["dtype"])

    def test_leaves_torch_s_threads_as_they_were(self, folder: Path) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(before + 1)
        try:
            kvbench.measure(folder, prompts="a", **BRIEF)
            assert before + 1 == torch.get_num_threads()
        finally:
            torch.set_num_threads(before)

    def test_is_gone_afterwards_also_after_an_error(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[weakref.ref[Any]] = []
        load = torch_backend.load

        def watched(*arguments: Any) -> Any:
            loaded = load(*arguments)
            seen.append(weakref.ref(loaded.model))
            loaded.model.__dict__["itself"] = [loaded.model]  # a cycle, as hooks and code of one's own make them
            return loaded

        monkeypatch.setattr(torch_backend, "load", watched)
        kvbench.measure(folder, prompts="a", **BRIEF)
        assert [None] == [each() for each in seen]
        with pytest.raises(ConfigError, match=r"workload\.new_tokens=200"):
            kvbench.measure(folder, prompts=[[5]], new_tokens=200)
        assert 2 == len(seen)
        gc.collect()  # the error held its frames until here
        assert [None, None] == [each() for each in seen]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"model": "some-org/nowhere"}, r"^HF_HUB_OFFLINE is set, .* or pass the path of a local folder$"),
            ({"model": "./nowhere"}, r"^model=\./nowhere: no such folder$"),
            ({"model": Path("nowhere")}, r"^model=nowhere: no such folder$"),
            ({"model": "three/part/name"}, r"^model=three/part/name: no such folder$"),
            ({"model": "two words"}, "^model=two words: not a hub id; write it as ORG/NAME$"),
            ({"model": "embedded", "revision": "main"}, "^revision=main: of a hub repository, and embedded is none"),
            ({"model": "gpt2", "tokenizer": "theirs"}, "^tokenizer: gpt2 is loaded with its own; leave it out"),
            ({"device": "cuda:99"}, "^device=cuda:99: "),
        ],
        ids=str,
    )
    def test_that_cannot_be_had_is_refused_in_a_line(self, arguments: dict[str, Any], said: str) -> None:
        with pytest.raises(BadInput, match=said) as refused:
            kvbench.measure(**arguments)
        assert "model.id" not in str(refused.value)
        assert 1 == len(str(refused.value).splitlines())

    @pytest.mark.parametrize("argument", [{"revision": "main"}, {"dtype": "float16"}, {"device": "cpu"}], ids=str)
    def test_how_it_is_loaded_is_no_matter_of_a_loaded_one(
        self, loaded: tuple[Any, Any], argument: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigError, match=f"^{next(iter(argument))}=.* says how a model is loaded"):
            kvbench.measure(*loaded, **argument)


class TestAModelOfOnesOwn:
    def test_is_measured_without_a_tokenizer_and_left_as_it_was(self) -> None:
        space: dict[str, Any] = {"__name__": "readme"}
        exec(nano(), space)
        model = space["Nano"](n_layer=2, n_head=2, width=32).train()
        record = kvbench.measure(model, prompts="a prompt", new_tokens=4, blocks=5, warmup=0, step_lane=False)
        assert ("ok", "Nano") == (record.status, (record.model or {})["name"])
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_package_offers_exactly_this() -> None:
    assert ["measure", "rescore", "watch"] == kvbench.__all__
