"""The sums that the embedded model learns and is examined on, and the pieces that all training text is made of."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PAD, EOS, BOS = "<pad>", "<eos>", "<bos>"


@dataclass(frozen=True)
class Piece:
    """Some text; nothing is learned from a piece that nobody could foresee, such as the summands of a sum."""

    text: str
    learned: bool = True


STOP, LINE_BREAK = Piece(EOS), Piece("\n")

HELD_OUT_SHARE = 0.1  # of all pairs of summands
SHAPES = {(2, 2): 0.3, (3, 3): 0.5, (2, 3): 0.1, (3, 2): 0.1}  # digits of the summands -> share of the sums


def is_held_out(a: int, b: int) -> bool:
    """Whether this pair is never trained on: its digest decides, the same for a+b and b+a."""
    digest = hashlib.sha256(f"{min(a, b)}+{max(a, b)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def summands(dice: random.Random, shape: tuple[int, int], *, held_out: bool = False) -> tuple[int, int]:
    """A pair with this many digits, out of the training pairs or out of the held-out ones."""
    while True:
        a, b = (dice.randrange(10 ** (digits - 1), 10**digits) for digits in shape)
        if is_held_out(a, b) == held_out:
            return a, b


def sum_pieces(dice: random.Random) -> list[Piece]:
    """A sum out of the training pairs, such as `37+48=85`; what is learned is its answer."""
    (shape,) = dice.choices(list(SHAPES), weights=list(SHAPES.values()))
    a, b = summands(dice, shape)
    return [Piece(f"{a}+{b}=", learned=False), Piece(str(a + b))]


# The examination.


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
