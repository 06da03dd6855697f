"""Lines of texts with log-probabilities: what each must have, and the sentence for one that has not."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvbench.scored_texts import given_texts, read_texts, unfit


def sentence(tmp_path: Path, line: str) -> str:
    file = tmp_path / "texts.jsonl"
    file.write_text(f'{{"ids": [1, 2], "prompt_tokens": 1, "logprobs": [-1]}}\n\n{line}\n')
    texts, wrong = read_texts(file)
    assert 1 == len(texts)
    assert 1 == len(wrong)
    assert wrong[0].startswith("line 3: ")
    return wrong[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "is no JSON"),
        ("[1, 2]", "is no JSON object: write {"),
        ("[" * 100_000, "is no JSON"),
        ('{"ids": [1, 2], "logprobs": [-1]}', "has no prompt_ids or prompt_tokens"),
        ('{"ids": [1, 2], "prompt_tokens": 1}', "has no logprobs"),
        ('{"prompt_ids": [1, 2], "logprobs": [-1]}', "has no ids"),
        ('{"prompt_ids": "a", "ids": [2], "logprobs": [-1]}', "are lists of token ids"),
        ('{"prompt_ids": [1], "prompt_tokens": 2, "ids": [2], "logprobs": [-1]}', "leave one out"),
        ('{"ids": 7, "prompt_tokens": 1, "logprobs": [-1]}', "ids is a list of token ids"),
        ('{"ids": [1, "b"], "prompt_tokens": 1, "logprobs": [-1]}', "'b' is no token id"),
        ('{"ids": [1, true], "prompt_tokens": 1, "logprobs": [-1]}', "True is no token id"),
        ('{"ids": [1, 2.5], "prompt_tokens": 1, "logprobs": [-1]}', "2.5 is no token id"),
        ('{"ids": [1, -2], "prompt_tokens": 1, "logprobs": [-1]}', "-2 is no token id"),
        ('{"ids": [1, 2], "prompt_tokens": 3, "logprobs": [-1]}', "prompt_tokens is 3"),
        ('{"ids": [1, 2], "prompt_tokens": "1", "logprobs": [-1]}', "prompt_tokens is '1'"),
        ('{"ids": [1, 2], "prompt_tokens": 0, "logprobs": [-1, -1]}', "give at least one"),
        ('{"ids": [1, 2], "prompt_tokens": 2, "logprobs": []}', "the answer has no token"),
        ('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": null}', "has no logprobs"),
        ('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": -1}', "logprobs is a list of numbers"),
        ('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": [-1, -2]}', "2 logprobs for an answer of 1 tokens"),
        ('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": [null]}', "logprobs[0] is None"),
        ('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": ["-1"]}', "logprobs[0] is '-1'"),
        ('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": [NaN]}', "logprobs[0] is nan"),
        ('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": [-Infinity]}', "top-k cut the distribution"),
        ('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": [-1e999]}', "logprobs[0] is -inf"),
        ('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": [0.5]}', "above 0: give natural logarithms"),
    ],
)
def test_a_line_that_cannot_be_used_says_what_is_wrong(tmp_path: Path, line: str, said: str) -> None:
    assert said in sentence(tmp_path, line)


def test_both_forms_give_the_same_text(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(
        '{"prompt_ids": [1, 2], "ids": [3, 4], "logprobs": [-0.5, 0]}\n'
        '{"ids": [1, 2, 3, 4], "prompt_tokens": 2, "logprobs": [-0.5, 0]}\n'
    )
    (one, two), wrong = read_texts(file)
    assert [] == wrong
    assert ((1, 2, 3, 4), 2, (-0.5, 0)) == (one.ids, one.prompt_tokens, one.log_probabilities)
    assert (one.ids, one.prompt_tokens) == (two.ids, two.prompt_tokens)
    assert ("line 1", "line 2") == (one.where, two.where)


@pytest.mark.parametrize(
    ("written", "half"),
    [("-0.1234", 5e-5), ("-1.2e-3", 5e-5), ("-1.25, -0.5", 5e-3), ("-1", 0.0), ("-0.12345678901234567", 5e-18)],
)
def test_the_digits_of_a_file_tell_how_finely_it_was_written(tmp_path: Path, written: str, half: float) -> None:
    file = tmp_path / "texts.jsonl"
    ids = [1, *range(2, 3 + written.count(","))]
    file.write_text(f'{{"ids": {ids}, "prompt_tokens": 1, "logprobs": [{written}], "at": 0.123456}}')
    (text,), wrong = read_texts(file)
    assert [] == wrong
    assert half == pytest.approx(text.written_to)


def test_one_text_and_several_are_told_apart() -> None:
    (one,) = given_texts([1, 2, 3], [-1.0], None)
    assert ((1, 2, 3), 2) == (one.ids, one.prompt_tokens)
    several = given_texts(((1, 2, 3), (4, 5)), [[-1.0, -2.0], [-3.0]], None)
    assert [1, 1] == [text.prompt_tokens for text in several]


def test_what_no_model_of_this_size_can_have_written_is_named() -> None:
    texts = given_texts([[1, 2, 3], [1, 9], [1, 2]], None, 1)
    said = unfit(texts, 9, 2)
    assert 2 == len(said)
    assert said[0].startswith("text 0: 3 ids are more than the model's context of 2")
    assert said[1].startswith("text 1: id 9 is outside the model's vocabulary of 9 tokens")
    assert [] == unfit(texts, None, None)
