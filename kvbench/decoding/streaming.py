"""Text from tokens as they come, with no character torn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

REPLACEMENT = "\ufffd"  # what a tokenizer gives for bytes that are not (yet) a character


class IncrementalText:
    """Decodes a growing list of tokens into pieces of text that, joined, are the whole text.

    A byte-level token may hold a part of a character, and the text of a token may depend on the one before it, so
    each piece is the difference of two decodings that share a few tokens of context.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0  # first token of the decodings
        self._said = 0  # tokens whose text is out

    def add(self, ids: Sequence[int]) -> str:
        """The new text, which is empty while its last character is incomplete."""
        self._ids.extend(ids)
        before = self._decode(self._ids[self._context : self._said])
        now = self._decode(self._ids[self._context :])
        if len(now) <= len(before) or now.endswith(REPLACEMENT):
            return ""
        self._context, self._said = self._said, len(self._ids)
        return now[len(before) :]

    def finish(self) -> str:
        """What is left, with bytes that never became a character replaced."""
        before = self._decode(self._ids[self._context : self._said])
        now = self._decode(self._ids[self._context :])
        self._context, self._said = self._said, len(self._ids)
        return now[len(before) :]


class TextObserver:
    """Reads the tokens of one sequence every `interval` tokens and hands on their text.

    Each read is a synchronisation, so this belongs to runs that are not timed.
    """

    def __init__(
        self, text: IncrementalText, interval: int, stop_ids: Sequence[int], say: Callable[[str], None]
    ) -> None:
        self._text = text
        self._interval = interval
        self._stop_ids = stop_ids
        self._say = say
        self._waiting: list[Any] = []

    def on_token(self, index: int, token_ids: Any) -> None:
        """`token_ids` (1,): the newest token."""
        self._waiting.append(token_ids)
        if (index + 1) % self._interval == 0:
            self._flush()

    def finish(self) -> None:
        """Hand on the rest."""
        self._flush()
        if rest := self._text.finish():
            self._say(rest)

    def _flush(self) -> None:
        ids = [int(token) for token in self._waiting]
        self._waiting.clear()
        piece = self._text.add([token for token in ids if token not in self._stop_ids])
        if piece:
            self._say(piece)
