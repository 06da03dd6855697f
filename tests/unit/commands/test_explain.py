"""`kvbench explain`: the picture of what each mode submits, for a prompt of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

Run = Callable[..., tuple[int, str, str]]


def test_it_draws_both_modes_for_a_prompt_split_by_the_models_tokenizer(run_kvbench: Run, tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    code, out, _ = run_kvbench("explain", "The cache keeps the keys", "--new-tokens", "4", "--svg", str(picture))
    assert code == 0
    assert "6 prompt tokens: <bos> | The | cache | keeps | the | keys" in out
    assert "30 positions computed for 4 new tokens" in out
    assert "9 positions computed for 4 new tokens" in out
    assert "30 positions" in ElementTree.parse(picture).getroot().attrib["aria-label"]


def test_settings_choose_the_tokenizer_and_modes_what_is_drawn(run_kvbench: Run) -> None:
    random = ("model=gemma2b", "model.weights=random")  # a tokenizer of bytes
    code, out, _ = run_kvbench("explain", "--mode", "interrupted", "Hello", *random, "--new-tokens", "4")
    assert (0, True) == (code, "5 prompt tokens: H | e | l | l | o" in out)
    assert "step 2   7  ■■■■■■■" in out
    assert "nocache" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("two", "words"), "words: the prompt is one word for the shell; put it in quotes"),
        (("--mode", "generate"), "generate: choose of nocache, cached, interrupted, resumed"),
        (("--new-tokens", "0"), "--new-tokens 0: must be between 1 and 1,000,000"),
        (("model=scripted",), "explain knows the tokenizers of transformers models"),
        (("workload.new_token=3",), "workload.new_token"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(run_kvbench: Run, words: tuple[str, ...], said: str) -> None:
    code, out, err = run_kvbench("explain", *words)
    assert (2, "", 1) == (code, out, err.count("\n"))
    assert said in err
