"""Models without a tokenizer speak bytes."""

from __future__ import annotations

import pytest

from kvbench.errors import ModelUnavailable
from kvbench.models.tokenizers import byte_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer(1000)


@pytest.mark.parametrize("text", ["plain", "  spaces  and\nlines\t", "请问什么是大型语言模型？", "é🙂\x00\x7f", ""])
def test_a_text_becomes_its_utf8_bytes_and_back(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert list(text.encode()) == ids
    assert text == tokenizer.decode(ids)


def test_bytes_that_are_not_utf8_decode_to_the_replacement_character(tokenizer):
    assert tokenizer.decode([0xE8, 0xAF]) == "\ufffd"


def test_a_character_appears_when_its_last_byte_does(tokenizer):
    pieces = list("请".encode())
    assert [tokenizer.decode(pieces[:count]) for count in (1, 2, 3)] == ["\ufffd", "\ufffd", "请"]


def test_ids_beyond_the_bytes_decode_to_their_number(tokenizer):
    assert tokenizer.decode([72, 999, 105]) == "H<999>i"


def test_a_number_in_a_text_stays_text(tokenizer):
    assert tokenizer("<999>")["input_ids"] == list(b"<999>")


def test_special_tokens_follow_the_bytes_and_can_be_skipped(tokenizer):
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (256, 257, 258)
    assert tokenizer.decode([65, 257], skip_special_tokens=True) == "A"


def test_it_has_as_many_tokens_as_the_model_and_no_chat_template(tokenizer):
    assert len(tokenizer) == 1000
    assert tokenizer.chat_template is None


def test_a_vocabulary_without_room_for_all_bytes_is_refused():
    with pytest.raises(ModelUnavailable, match=r"vocab_size=258: .* at least 259"):
        byte_tokenizer(258)
