"""What stands in the way of a model of one's own is said in one line that begins with its target."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kvbench.config.schema import ModelConfig
from kvbench.decoding.caches import logical_bytes
from kvbench.errors import ModelUnavailable, PromptError
from kvbench.models.loading import LoadedModel
from kvbench.models.own import OwnPast, adopt_own, load_own
from kvbench.models.tokenizers import FoldedBytes, OfferedText

BUILD = "def build():\n    "
CPU = torch.device("cpu")
GOOD = "import torch\ndef build(width=7):\n    return lambda ids: torch.zeros(*ids.shape, width)\n"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LoadedModel]]:
    """Loads from a source in the current folder: `load(source, "build", width=3)`."""
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)

    def of(source: str, factory: str = "build", dtype: str = "auto", **options: Any) -> LoadedModel:
        sys.modules.pop("theirs", None)
        (tmp_path / "theirs.py").write_text(source)
        spec = ModelConfig(name="n", weights="python", target=f"theirs:{factory}", dtype=dtype, options=options)
        return load_own(spec, "n", CPU)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield of
    sys.path[:] = before
    sys.modules.pop("theirs", None)


class TestATarget:
    @pytest.mark.parametrize(
        ("source", "factory", "complaint"),
        [
            (
                "import nowhere_at_all",
                "build",
                "importing theirs raised ModuleNotFoundError: No module named 'nowhere_at_all' (theirs.py, line 1)",
            ),
            ("def (", "build", "importing theirs raised SyntaxError"),
            ("raise SystemExit(3)", "build", "importing theirs raised SystemExit: 3 (theirs.py, line 1)"),
            (GOOD, "biuld", "theirs has no biuld; did you mean build?"),
            ("build = 3", "build", "is of type int; name a class or a function"),
            (BUILD + "raise KeyError('a\\nb')", "build", "the factory raised KeyError: 'a\\nb' (theirs.py, line 2)"),
            (BUILD + "return {}", "build", "gave an object of type dict, which cannot be called as model(ids)"),
            (BUILD + "return lambda ids: (ids, None)", "build", "model(ids) returned a tuple; return the logits alone"),
            (BUILD + "return lambda ids: ids", "build", "model(ids) returned int64 of shape (2, 3)"),
            (BUILD + "return lambda ids: ids.float()[:, :2, None]", "build", "returned float32 of shape (2, 2, 1)"),
            (BUILD + "return lambda ids: ids[9]", "build", "model(ids) with ids of shape (2, 3) raised IndexError"),
        ],
    )
    def test_that_is_wrong_is_named(
        self, load: Callable[..., LoadedModel], source: str, factory: str, complaint: str
    ) -> None:
        with pytest.raises(ModelUnavailable, match=re.escape(complaint)) as raised:
            load(source, factory)
        assert str(raised.value).startswith(f"model.target=theirs:{factory}: ")
        assert "\n" not in str(raised.value)

    def test_that_is_not_there_is_looked_for_in_the_current_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(ModelUnavailable, match=r"there is no module nowhere_at_all in .* \(PYTHONPATH\)"):
            load_own(ModelConfig(name="n", weights="python", target="nowhere_at_all.deep:build"), "n", CPU)

    def test_gets_its_options_and_names_one_that_it_does_not_take(self, load: Callable[..., LoadedModel]) -> None:
        assert 5 == load(GOOD, width=5).facts.vocab_size
        with pytest.raises(ModelUnavailable, match=r"the factory raised TypeError: .*'depth'"):
            load(GOOD, depth=5)

    def test_that_is_no_module_cannot_be_cast(self, load: Callable[..., LoadedModel]) -> None:
        with pytest.raises(ModelUnavailable, match=r"model\.dtype=bfloat16: .* only an nn\.Module can be cast"):
            load(GOOD, dtype="bfloat16")

    def test_that_runs_out_of_memory_is_no_mistake_of_the_model(self, load: Callable[..., LoadedModel]) -> None:
        with pytest.raises(MemoryError):
            load("def build():\n    raise MemoryError")

    def test_states_whole_numbers(self) -> None:
        with pytest.raises(ModelUnavailable, match="max_context is '9'; it must be a whole number above 0"):
            adopt_own(Fixed(max_context="9"), "n", "here", CPU)


class Fixed:
    """Logits of zeros, with attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, 65)


class TestText:
    def test_is_bytes_within_the_vocabulary_where_the_model_has_none_and_a_remark_says_so(self) -> None:
        loaded = adopt_own(Fixed(), "n", "here", CPU)
        assert [ord("h") % 65, ord("i") % 65] == loaded.tokenizer.encode("hi")
        (remark,) = loaded.remarks
        assert "modulo its vocabulary of 65" in remark.detail

    def test_of_bytes_comes_back(self) -> None:
        text = FoldedBytes(300)
        assert "né<299>" == text.decode([*text.encode("né"), 299])
        assert "<5>" == FoldedBytes(65).decode([5])

    def test_is_the_model_s_own_where_it_has_both(self) -> None:
        own = Fixed(encode=lambda text: [ord(letter) - 97 for letter in text], decode=lambda ids: "abc"[ids[0]])
        loaded = adopt_own(own, "n", "here", CPU)
        assert ([0, 1], "b", ()) == (loaded.tokenizer.encode("ab"), loaded.tokenizer.decode([1]), loaded.remarks)
        with pytest.raises(PromptError, match="outside of its vocabulary of 65"):
            loaded.tokenizer.encode("\u91cd")

    def test_that_cannot_be_read_is_a_prompt_error_and_an_id_that_cannot_be_written_a_number(self) -> None:
        table = {"a": 0}
        text = OfferedText(lambda text: [table[letter] for letter in text], lambda ids: ["a"][ids[0]], 65)
        with pytest.raises(PromptError, match=r"encode\(\) raised KeyError: 'b' .* workload\.prompt"):
            text.encode("ab")
        assert "<7>" == text.decode([7])

    def test_of_half_a_tokenizer_is_refused(self) -> None:
        with pytest.raises(ModelUnavailable, match=r"here: has no decode\(\); offer both"):
            adopt_own(Fixed(encode=list), "n", "here", CPU)


class TestACache:
    def test_has_its_tensors_counted_wherever_they_are(self) -> None:
        four = torch.zeros(4)
        model = torch.nn.Linear(9, 9)
        inner = SimpleNamespace(k=four, v=[four + 0, {"x": (four + 0,)}], model=model, name="text")
        assert 3 * 16 == logical_bytes(OwnPast(SimpleNamespace(layers=[inner, inner])))
        assert 16 == logical_bytes(OwnPast([four]))

    def test_may_say_which_tensors_count(self) -> None:
        assert 8 == logical_bytes(OwnPast(SimpleNamespace(k=torch.zeros(9), tensors=lambda: [torch.zeros(2)])))

    @pytest.mark.parametrize(
        ("cache", "length"),
        [
            (SimpleNamespace(length=3), 3),
            (SimpleNamespace(length=torch.tensor(3)), 3),
            ([1, 2], None),
            (object(), None),
        ],
    )
    def test_tells_its_length_or_nothing(self, cache: Any, length: int | None) -> None:
        assert length == OwnPast(cache).stated_length()
