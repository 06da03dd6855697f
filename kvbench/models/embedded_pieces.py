"""Pieces of training text, and the tokens that begin and end them."""

from __future__ import annotations

from dataclasses import dataclass

PAD, EOS, BOS = "<pad>", "<eos>", "<bos>"


@dataclass(frozen=True)
class Piece:
    """Some text; nothing is learned from a piece that nobody could foresee, such as the summands of a sum."""

    text: str
    learned: bool = True


STOP, LINE_BREAK = Piece(EOS), Piece("\n")
