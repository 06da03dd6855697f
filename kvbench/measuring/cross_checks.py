"""What the figures of a run are held against: the same visit under other conditions, and one real decode."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AuditBlock:
    """One arm visited under several conditions in random order, in the throughput lane.

    Conditions: "repeat" and "again" are the same visit twice; "fresh" has prompts of the same length never seen;
    "unwatched" is without the parent's readings of memory. Seconds of prefill and of decoding by condition.
    """

    index: int
    arm: int
    ttft_s: dict[str, float]
    decode_s: dict[str, float]


@dataclass(frozen=True)
class RealDecode:
    """One long generation, step by step, twice: at lengths of which most were not seen before, and once more."""

    arm: int
    prompt_tokens: int
    first_ttft_s: float
    first_step_s: tuple[float, ...]
    second_step_s: tuple[float, ...]
