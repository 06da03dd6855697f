"""The timed runs: what one visit of an arm took, and blocks of visits to all of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from kvbench.measuring.readings import DeviceReading


def tokens_sha256(ids: list[list[int]]) -> str:
    """A digest of the new ids of one batch: equal digests, equal tokens."""
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


@dataclass(frozen=True)
class Visit:
    """One arm over one batch of prompts, from the prompt to the last new token.

    `decode_s` is host wall time between two synchronisations; `decode_device_s` the same span on the device's own
    timeline, and `decode_enqueue_s` the part of the wall time until the host had submitted the last step.
    """

    arm: int
    batch: int
    # "throughput": no synchronisation between the steps; "steps": one mark per step; "trace": with token confidence
    lane: str
    ttft_s: float
    decode_s: float
    decode_device_s: float | None
    decode_enqueue_s: float
    sequences: int
    new_tokens: int  # summed over the sequences, the first ones included
    steps: int  # forward passes after the prefill
    step_s: tuple[float, ...] | None  # one per step in the "steps" lane
    tokens_sha256: str
    passes_checked: int  # forward passes held against the mode's promise; 0 for `generate`, which hides them here
    violations: int  # of those, the ones that broke it


@dataclass(frozen=True)
class Block:
    """One visit to every arm in random order, over every prompt batch and in every lane."""

    index: int
    order: tuple[int, ...]  # arms in the order they were visited
    started_at: str
    elapsed_s: float
    visits: tuple[Visit, ...]
    device_before: DeviceReading | None = None
    device_after: DeviceReading | None = None
    throttled: tuple[str, ...] = ()  # why, when the device was slowed down while it ran
    repeats: int | None = None  # the index of the throttled block that this one stands for
    other_cores: float | None = None  # CPU cores kept busy by other processes meanwhile


def counted(blocks: list[Block]) -> list[Block]:
    """The blocks that figures are made of: all but the throttled ones that another stands for."""
    replaced = {block.repeats for block in blocks}
    return [block for block in blocks if block.index not in replaced]
