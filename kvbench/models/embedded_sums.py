"""The sums that the embedded model learns and is examined on."""

from __future__ import annotations

import hashlib
import random

from kvbench.models.embedded_pieces import Piece

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
