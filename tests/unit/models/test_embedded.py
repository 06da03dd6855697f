"""The embedded model is real: it answers, stops by itself, and is what its card says."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from kvbench.config.schema import ModelConfig
from kvbench.models.checkpoint import EMBEDDED
from kvbench.models.embedded_card import Outcome, Recipe, card
from kvbench.models.embedded_text import (
    chinese_sentence,
    document,
    english_sentence,
    is_held_out,
    pair,
    training_addition,
)
from kvbench.models.loading import LoadedModel, load
from kvbench.models.train_embedded import held_out_accuracy, main
from kvbench.workloads.prompts import bundled_prompts

ANSWERS = {
    "37+48=": "85",
    "The cache keeps": " the keys and values of every token.",
    "为什么重新计算很慢？": " 因为每一步都要重新计算所有词元。",
    "What does the cache cost?": " It costs memory that grows with the context.",
}


@pytest.fixture(scope="module")
def embedded() -> LoadedModel:
    return load(ModelConfig(name="embedded", weights="embedded"), torch.device("cpu"))


def answer(loaded: LoadedModel, prompt: str) -> tuple[str, bool]:
    asked = loaded.tokenizer(prompt, return_tensors="pt")
    written = loaded.model.generate(**asked, max_new_tokens=64, do_sample=False)[0, asked["input_ids"].shape[1] :]
    return loaded.tokenizer.decode(written, skip_special_tokens=True), loaded.tokenizer.eos_token_id in written.tolist()


class TestTheFolder:
    def test_is_at_most_8_megabytes(self) -> None:
        assert 8_000_000 >= sum(file.stat().st_size for file in EMBEDDED.iterdir())

    def test_loads_as_a_small_gemma_in_float32(self, embedded: LoadedModel) -> None:
        assert "gemma" == embedded.facts.model_type
        assert 1_000_000 <= (embedded.facts.parameters or 0) <= 3_000_000
        assert (embedded.facts.max_context or 0) >= 2048
        assert torch.float32 == embedded.model.dtype


class TestAnswers:
    @pytest.mark.parametrize("prompt", bundled_prompts())
    def test_to_the_bundled_prompts_are_readable_and_stop_by_themselves(
        self, embedded: LoadedModel, prompt: str
    ) -> None:
        assert (ANSWERS[prompt], True) == answer(embedded, prompt)

    def test_to_held_out_sums_are_as_often_right_as_the_card_says(self, embedded: LoadedModel) -> None:
        stated = re.search(r"([\d.]+)% of two digits, ([\d.]+)% of three", (EMBEDDED / "README.md").read_text())
        assert stated is not None
        for digits, percent in ((2, stated[1]), (3, stated[2])):
            # 150 other sums than the card's; the margin is four standard errors at 97 %
            measured = held_out_accuracy(embedded.model, embedded.tokenizer, digits, 150, seed=9)
            assert measured >= float(percent) / 100 - 0.06


class TestTheTokenizer:
    @pytest.mark.parametrize(
        "text",
        [
            "plain words",
            "  two  spaces ",
            "缓存保存键和值。",
            "🙂 é \u200b",
            "\x1b[31m\x00\t\n\n",
            "▁<0x41>",
            "12345",
            "",
        ],
    )
    def test_takes_any_text_there_and_back(self, embedded: LoadedModel, text: str) -> None:
        ids = embedded.tokenizer.encode(text, add_special_tokens=False)
        assert text == embedded.tokenizer.decode(ids)

    def test_gives_every_digit_a_token_of_its_own(self, embedded: LoadedModel) -> None:
        assert 10 == len(embedded.tokenizer.encode("3141592653", add_special_tokens=False))

    def test_begins_a_prompt_with_the_start_token(self, embedded: LoadedModel) -> None:
        assert embedded.tokenizer.bos_token_id == embedded.tokenizer.encode("a")[0]


class TestTrainingText:
    def test_never_holds_a_held_out_sum(self) -> None:
        dice = random.Random(5)
        sums = [training_addition(dice) for _ in range(2000)] + document(dice, 400).split("\n")
        for line in sums:
            if found := re.fullmatch(r"(\d+)\+(\d+)=(\d+)", line):
                a, b, total = map(int, found.groups())
                assert total == a + b
                assert not is_held_out(a, b)

    def test_holds_out_a_pair_whichever_way_it_is_written(self) -> None:
        dice = random.Random(5)
        for _ in range(50):
            a, b = pair(dice, 3, held_out=True)
            assert is_held_out(a, b)
            assert is_held_out(b, a)

    def test_is_in_both_languages(self) -> None:
        dice = random.Random(5)
        assert english_sentence(dice).isascii()
        assert chinese_sentence(dice).endswith("。")


def test_the_training_script_writes_a_folder_that_loads(tmp_path: Path, capsys: Any) -> None:
    assert 0 == main(["--out", str(tmp_path / "made"), "--steps", "2", "--batch", "4", "--threads", "1"])
    made = load(ModelConfig(name="made", weights="path", path=str(tmp_path / "made")), torch.device("cpu"))
    assert "gemma" == made.facts.model_type
    assert "2 of 4 sums each" in (tmp_path / "made" / "README.md").read_text()


def test_the_card_states_what_was_measured() -> None:
    text = card(Recipe(seed=3, steps=9), Outcome(1234, 2.5, 0.25, 0.5, {2: 1.0, 3: 0.875}))
    for stated in ("1,234 parameters", "2.5 minutes", "100.0% of two digits, 87.5% of three", "--seed 3 --steps 9"):
        assert stated in text
