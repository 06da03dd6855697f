"""Yuan's sentencepiece folder becomes a tokenizer without remote code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import kvbench.models  # noqa: F401 - registers the tokenizer
from kvbench.models.hub import explained

TEXT = "The cache keeps keys and values.\n请问目前最先进的机器学习算法有哪些？\nx = [i + 1 for i in range(10)]\n"
SETTINGS = {"add_bos_token": False, "add_eos_token": False, "eos_token": "<eod>", "bos_token": "<BOS>"}


@pytest.fixture(scope="session")
def sentencepiece_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real one, trained on three lines."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("sentencepiece")
    (folder / "corpus.txt").write_text(TEXT * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=420,
        hard_vocab_limit=False,
        byte_fallback=True,
        user_defined_symbols=["<eod>", "<sep>", "<BOS>"],
        minloglevel=2,
    )
    return folder / "tokenizer.model"


def folder_of(place: Path, model: Path, settings: dict[str, Any] | None) -> Path:
    place.mkdir()
    shutil.copy(model, place / "tokenizer.model")
    shape = {"model_type": "yuan", "vocab_size": 135040, "tokenizer_class": "YuanTokenizer"}
    (place / "config.json").write_text(json.dumps(shape))
    if settings is not None:
        (place / "tokenizer_config.json").write_text(json.dumps(settings))
    return place


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {**SETTINGS, "tokenizer_class": "YuanTokenizer"},
        {**SETTINGS, "tokenizer_class": "LlamaTokenizer"},
    ],
    ids=["no tokenizer_config.json", "YuanTokenizer", "LlamaTokenizer"],
)
def test_nothing_is_added_and_eod_ends_a_document(
    tmp_path: Path, sentencepiece_model: Path, settings: dict[str, Any] | None
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder_of(tmp_path / "yuan", sentencepiece_model, settings))
    import sentencepiece

    expected = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_model))
    text = "请问 the cache keeps values"
    assert expected.encode(text) == tokenizer.encode(text)
    assert tokenizer.encode(text) == tokenizer.encode(text + "<eod>")[:-1]
    assert ("<eod>", expected.piece_to_id("<eod>")) == (tokenizer.eos_token, tokenizer.encode(text + "<eod>")[-1])
    assert text == tokenizer.decode(tokenizer.encode(text))


def test_a_missing_package_is_one_line_that_says_which(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"pip install .*\[sentencepiece\]"), explained("mine"):
        raise ValueError("`tiktoken` is required to read a `tiktoken` file. Install it with `pip install tiktoken`.")
