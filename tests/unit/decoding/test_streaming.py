"""Streamed text is the text: no character torn, none lost, none doubled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kvbench.decoding.streaming import IncrementalText, TextObserver


def decode_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", errors="replace")


def decode_words(ids: Sequence[int]) -> str:
    """Like SentencePiece: the space before a word shows only when a word precedes it."""
    return " ".join(f"w{token}" for token in ids)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
@pytest.mark.parametrize("text", ["plain", "缓存 keeps 键和值", "🙂🙃 été", ""])
def test_pieces_joined_are_the_text_whatever_the_interval(text: str, chunk: int) -> None:
    ids = list(text.encode())
    stream = IncrementalText(decode_bytes)
    pieces = [stream.add(ids[start : start + chunk]) for start in range(0, len(ids), chunk)]
    assert all("\ufffd" not in piece for piece in pieces)
    assert text == "".join([*pieces, stream.finish()])


def test_spaces_between_words_are_kept() -> None:
    stream = IncrementalText(decode_words)
    assert "w1 w2 w3" == "".join([stream.add([1]), stream.add([2]), stream.add([3]), stream.finish()])


def test_a_character_that_never_completes_is_replaced_at_the_end() -> None:
    stream = IncrementalText(decode_bytes)
    assert stream.add("é".encode()[:1]) == ""
    assert stream.finish() == "\ufffd"


def test_the_observer_reads_every_interval_tokens_and_leaves_the_stop_token_out() -> None:
    said: list[str] = []
    observer = TextObserver(IncrementalText(decode_bytes), 3, [0], said.append)
    for index, token in enumerate([*b"abcde", 0]):
        observer.on_token(index, token)
    observer.finish()
    assert said == ["abc", "de"]
