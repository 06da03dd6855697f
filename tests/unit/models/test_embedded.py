"""The embedded model answers, stops, adds, and comes with everything that a benchmark needs."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from kvbench.plan import bundled_prompts, long_text
from tools.embedded_model.sums import (
    EOS,
    LINE_BREAK,
    Piece,
    accuracy,
    answer,
    held_out_pairs,
    is_held_out,
    sum_pieces,
    summands,
)
from tools.embedded_model.text import document, documents
from tools.embedded_model.train import FOLDER

ANSWERS = {
    "37+48=": "85",
    "The cache keeps": " the keys and values of every token, so nothing is computed twice.",
    "重新计算": "在每一步提交所有词元，所以长文本需要很长时间。",
    "Why is recomputing slow?": " It submits all tokens again at every step.",
}
ODD_TEXTS = (
    "",
    " two  spaces, one at the end ",
    "tab\tline\nreturn\r\n",
    "\x00\x01\x1b[2J\x7f",
    "键值缓存，解码。",
    "🙂 👩‍👩‍👧 ключ कुंजी e\u0301 ﬁ",
    "▁ and <0x41> are only text",
    "\ufeff\ufffd\u202e\U0010ffff",
)


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def sums_in(text: str) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in re.findall(r"(\d+)\+(\d+)=", text)]


def accuracy_on_card(digits: int) -> float:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"{digits} \+ {digits} digits: ([\d.]+)%", card)
    assert found
    return float(found[1]) / 100


class TestTheFolder:
    def test_is_small_enough_to_keep(self) -> None:
        assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 8_000_000

    def test_loads_in_silence(self, capfd: pytest.CaptureFixture[str]) -> None:
        level = logging.get_verbosity()
        logging.set_verbosity_warning()
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                AutoModelForCausalLM.from_pretrained(FOLDER)
                AutoTokenizer.from_pretrained(FOLDER)
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()
        assert ("", "") == tuple(capfd.readouterr())


class TestTheModel:
    def test_has_between_one_and_three_million_parameters(self, model: Any) -> None:
        assert 1_000_000 <= model.num_parameters() <= 3_000_000

    def test_is_gemma_with_tied_embeddings_and_shared_key_value_heads(self, model: Any) -> None:
        assert "GemmaForCausalLM" == type(model).__name__
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert model.config.num_key_value_heads < model.config.num_attention_heads

    def test_has_room_for_long_contexts(self, model: Any) -> None:
        assert model.config.max_position_embeddings >= 2048

    def test_decodes_greedily_and_knows_its_special_tokens(self, model: Any, tokenizer: Any) -> None:
        chosen = model.generation_config
        assert not chosen.do_sample
        expected = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        assert expected == (chosen.bos_token_id, chosen.eos_token_id, chosen.pad_token_id)


class TestAnswers:
    def test_are_pinned_for_every_bundled_prompt(self) -> None:
        assert set(bundled_prompts()) == set(ANSWERS)

    @pytest.mark.parametrize("prompt", ANSWERS)
    def test_are_readable_and_stop_by_themselves(self, model: Any, tokenizer: Any, prompt: str) -> None:
        assert ANSWERS[prompt] + EOS == answer(model, tokenizer, prompt)

    @pytest.mark.parametrize("digits", [2, 3])
    def test_to_held_out_sums_are_as_right_as_the_card_says(self, model: Any, tokenizer: Any, digits: int) -> None:
        pairs = held_out_pairs((digits, digits), 200, seed=1)  # other pairs than those that the card counts
        assert accuracy(model, tokenizer, pairs) >= accuracy_on_card(digits) - 0.03


class TestTheTokenizer:
    @pytest.mark.parametrize("text", [*ODD_TEXTS, long_text()])
    def test_gives_every_text_back(self, tokenizer: Any, text: str) -> None:
        assert text == tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True)

    def test_gives_back_characters_from_all_of_unicode(self, tokenizer: Any) -> None:
        dice = random.Random(0)
        codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
        text = "".join(map(chr, dice.choices(codes, k=500)))
        assert text == tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True)

    def test_makes_one_token_of_each_digit(self, tokenizer: Any) -> None:
        digits = "0123456789" * 3
        assert len(digits) == len(tokenizer.encode(digits, add_special_tokens=False))
        assert list("307+48=") == tokenizer.tokenize("307+48=")

    def test_begins_with_its_start_token(self, tokenizer: Any) -> None:
        ids = tokenizer.encode("缓存")
        assert [tokenizer.bos_token_id, *tokenizer.encode("缓存", add_special_tokens=False)] == ids

    def test_gives_text_that_can_be_joined_token_by_token(self, tokenizer: Any) -> None:
        text = "The cache keeps 85 keys. 缓存保存每个词元的键和值。"
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert text == "".join(tokenizer.decode([token]) for token in ids)


class TestTrainingText:
    def test_never_holds_a_held_out_pair(self) -> None:
        dice = random.Random(5)
        text = "".join(text_of([*sum_pieces(dice), LINE_BREAK, *document(dice), LINE_BREAK]) for _ in range(3000))
        pairs = sums_in(text)
        assert len(pairs) > 3000
        assert not [pair for pair in pairs if is_held_out(*pair)]

    def test_holds_sums_that_are_right(self) -> None:
        dice = random.Random(6)
        for _ in range(200):
            asked, told = text_of(sum_pieces(dice)).split("=")
            assert sum(map(int, asked.split("+"))) == int(told)

    def test_learns_the_answer_of_a_sum_and_not_its_summands(self) -> None:
        assert [False, True] == [piece.learned for piece in sum_pieces(random.Random(7))]

    def test_is_the_same_for_the_same_seed(self) -> None:
        first, second = (text_of(list(islice(documents(random.Random(8)), 300))) for _ in range(2))
        assert first == second

    def test_speaks_both_languages_and_goes_on_after_a_stop_in_a_new_line(self) -> None:
        text = text_of(list(islice(documents(random.Random(9)), 300)))
        assert "缓存" in text
        assert "cache" in text
        assert text.count(EOS) - text.count(f"{EOS}\n") <= 1


class TestHeldOutPairs:
    def test_are_held_out_whichever_summand_comes_first(self) -> None:
        pairs = held_out_pairs((2, 3), 50)
        assert all(is_held_out(a, b) and is_held_out(b, a) for a, b in pairs)
        assert 50 == len(set(pairs))

    def test_are_a_tenth_of_all_pairs(self) -> None:
        pairs = [(a, b) for a in range(10, 100) for b in range(a, 100)]
        share = sum(is_held_out(a, b) for a, b in pairs) / len(pairs)
        assert pytest.approx(0.1, abs=0.02) == share

    def test_have_the_digits_that_were_asked_for(self) -> None:
        dice = random.Random(10)
        for _ in range(100):
            a, b = summands(dice, (2, 3))
            assert (2, 3) == (len(str(a)), len(str(b)))


def test_the_cards_command_names_this_script() -> None:
    assert "python -m tools.embedded_model.train" in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert Path(FOLDER, "model.safetensors").is_file()
