"""How well a trained model adds, and what it answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from kvbench.models.embedded_pieces import EOS
from kvbench.models.embedded_sums import summands

EXAMPLES = ("37+48=", "263+589=", "The cache keeps", "Why is recomputing slow?", "缓存保存", "重新计算")
LONGEST_ANSWER = 64  # tokens


def held_out_pairs(shape: tuple[int, int], count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Different pairs, none of which is ever trained on; of two digits each there are 814."""
    dice = random.Random(seed)  # noqa: S311 - nothing here is secret
    found: dict[tuple[int, int], None] = {}  # a set that keeps its order
    while len(found) < count:
        found[summands(dice, shape, held_out=True)] = None
    return list(found)


def accuracy(model: Any, tokenizer: Any, pairs: Sequence[tuple[int, int]]) -> float:
    """The share of these sums, all of one shape, that greedy decoding answers exactly and then stops."""
    asked = tokenizer([f"{a}+{b}=" for a, b in pairs], return_tensors="pt", return_token_type_ids=False)
    given = asked["input_ids"].shape[1]
    answers = tokenizer.batch_decode(model.generate(**asked, max_new_tokens=6, do_sample=False)[:, given:])
    right: list[bool] = [answer.startswith(f"{a + b}{EOS}") for answer, (a, b) in zip(answers, pairs, strict=True)]
    return sum(right) / len(right)


def answer(model: Any, tokenizer: Any, prompt: str) -> str:
    """What greedy decoding writes behind the prompt, its stop token included when it stops by itself."""
    asked = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    written = model.generate(**asked, max_new_tokens=LONGEST_ANSWER, do_sample=False)
    text: str = tokenizer.decode(written[0, asked["input_ids"].shape[1] :])
    return text
