"""Prompts become ids: exactly as many as asked for, in order, and different in each copy."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kvbench.config.compose import load_config, sources
from kvbench.errors import ConfigError, ModelUnavailable, PromptError
from kvbench.measuring.sensors import NullSensors
from kvbench.models.loading import adopt
from kvbench.models.tokenizers import byte_tokenizer
from kvbench.plan import Plan, Prompts, make_plan
from kvbench.running.preconditions import end_ids, pad_id_of
from kvbench.running.prompt_batches import tokenise
from kvbench.running.torch_backend import TorchBackend

BOS = 1


class Letters:
    """One id per character, behind a start token."""

    chat_template: str | None = None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [BOS] * add_special_tokens + [ord(letter) for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


class Bare(Letters):
    """The same without a start token."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return super().encode(text, add_special_tokens=False)


class Chatty(Letters):
    """With a template."""

    chat_template = "{{ messages }}"

    def apply_chat_template(
        self, turns: list[dict[str, str]], *, add_generation_prompt: bool, return_dict: bool
    ) -> list[int]:
        (turn,) = turns
        said = self.encode(f"<{turn['role']}>{turn['content']}")
        return said + self.encode("<model>", add_special_tokens=False) if add_generation_prompt else said


def plan(*overrides: str, prompts: Prompts | None = None) -> Plan:
    return make_plan(load_config(["model=embedded", *overrides], sources()), prompts)


def ids(entries: list[dict[str, Any]]) -> list[list[int]]:
    return [entry["token_ids"] for entry in entries]


class TestALength:
    @pytest.mark.parametrize("tokenizer", [Letters(), Bare()], ids=["start token", "none"])
    @pytest.mark.parametrize("tokens", [1, 2, 7, 25, 26, 27, 1000])
    def test_is_met_exactly_whether_the_text_is_cut_or_repeated(self, tokenizer: Any, tokens: int) -> None:
        entries = tokenise(plan(prompts=Prompts(("abcdefghijklmnopqrstuvwxyz",), (tokens,), 3)), tokenizer)
        assert [tokens] * 3 == list(map(len, ids(entries)))

    def test_comes_behind_the_start_token(self) -> None:
        (entry,) = tokenise(plan(prompts=Prompts(("abc",), (6,), 1)), Letters())
        assert [BOS, *map(ord, "abcab")] == entry["token_ids"]
        assert "abcab" == entry["text"]

    def test_of_the_bundled_text_is_met_too(self) -> None:
        entries = tokenise(plan("workload.prompt_tokens=4096", "workload.batch_size=2"), Letters())
        assert [4096, 4096] == list(map(len, ids(entries)))

    @pytest.mark.parametrize(
        "copies",
        [
            2,
            7,
            *(pytest.param(n) for n in (8, 16, 64)),
        ],
    )
    def test_is_filled_differently_in_each_copy(self, copies: int) -> None:
        entries = tokenise(plan("workload.prompt_tokens=128", f"workload.batch_size={copies}"), Letters())
        assert copies == len({tuple(each) for each in ids(entries)})


class TestTexts:
    def test_keep_their_order_and_their_start_tokens(self) -> None:
        entries = tokenise(plan(prompts=Prompts(("b", "aa"))), Letters())
        assert [{"text": "b", "token_ids": [BOS, 98]}, {"text": "aa", "token_ids": [BOS, 97, 97]}] == entries

    def test_without_tokens_are_refused_with_their_number(self) -> None:
        with pytest.raises(PromptError, match="prompt 2 has no tokens for this tokenizer"):
            tokenise(plan(prompts=Prompts(("a", ""))), Bare())


class TestAChatTemplate:
    def test_wraps_each_prompt_up_to_the_model_s_turn(self) -> None:
        (entry,) = tokenise(plan("workload.chat_template=true", prompts=Prompts(("hi",))), Chatty())
        assert [BOS, *map(ord, "<user>hi<model>")] == entry["token_ids"]
        assert "hi" == entry["text"]

    @pytest.mark.parametrize("tokenizer", [Letters(), object()], ids=["none", "no such attribute"])
    def test_that_is_missing_is_refused_with_the_key(self, tokenizer: Any) -> None:
        with pytest.raises(ConfigError, match=r"workload\.chat_template=true: .* set it to false"):
            tokenise(plan("workload.chat_template=true", prompts=Prompts(("hi",))), tokenizer)

    def test_is_not_applied_unless_asked_for(self) -> None:
        (entry,) = tokenise(plan(prompts=Prompts(("hi",))), Chatty())
        assert [BOS, *map(ord, "hi")] == entry["token_ids"]


class TestATokenizerOfAnotherModel:
    """Its ids go beyond the table of embeddings, where looking one up is an IndexError."""

    def test_is_refused_before_anything_is_decoded(self, tiny_model: Callable[..., Any]) -> None:
        loaded = adopt(tiny_model("llama"), byte_tokenizer(300), "mine")  # 97 embeddings
        backend = TorchBackend(loaded, torch.device("cpu"), NullSensors("none"))
        with pytest.raises(ModelUnavailable, match=r"tokenizer of mine gives the token id 111, .* has 97 embeddings"):
            backend.session(plan("workload.prompt=hello"))

    @pytest.mark.parametrize(("rows", "pad"), [(97, 0), (300, 258)])
    def test_fills_rows_with_a_token_that_the_model_has(
        self, tiny_model: Callable[..., Any], rows: int, pad: int
    ) -> None:
        model = tiny_model("llama", vocab_size=rows)
        assert pad == pad_id_of(adopt(model, byte_tokenizer(300), "mine"))


@pytest.mark.parametrize("stated", ["</s>", {}, [2, "x"], 1e300], ids=str)
def test_an_end_token_that_is_no_id_is_refused_in_one_line(stated: object) -> None:
    loaded = SimpleNamespace(
        model=SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=stated)),
        tokenizer=SimpleNamespace(eos_token_id=2),
        facts=SimpleNamespace(name="mine"),
    )
    with pytest.raises(ModelUnavailable, match=r"generation_config\.json of mine states eos_token_id=.*no token id"):
        end_ids(loaded)  # type: ignore[arg-type]
