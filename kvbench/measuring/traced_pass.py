"""How sure the model was of every new token, from an untimed pass of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TracedToken:
    """What the model thought of one new token, by its raw logits (softmax in float32, before any sampling setting).

    `text` is a piece of the sequence's text: joined, the pieces are the text, so a token that holds a part of a
    character has none until the one that completes it. None: the model gave no finite figure.
    """

    token_id: int
    text: str
    probability: float | None
    rank: int  # 1 is the likeliest
    entropy_nats: float | None
    alternatives: tuple[tuple[int, str, float], ...]  # likeliest first: id, the token's own text, probability


@dataclass(frozen=True)
class TracedPass:
    """Token confidence of one arm, from an untimed pass of its own: per prompt, in prompt order, the new tokens."""

    arm: int
    sequences: tuple[tuple[TracedToken, ...], ...]
