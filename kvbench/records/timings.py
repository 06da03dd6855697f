"""What was timed: visits, blocks of them and the device around each, first visits, audits, one real decode.

Plain dataclasses: a visit is made between two timed regions and holds a number for each of its steps, so nothing is
checked or copied there. No figure of theirs is in the record; `blocks.jsonl` refuses what is not a number.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from kvbench.records.evidence import LengthProbe

# A device that gets too hot or whose supply sags is not the device that was to be measured. Its power cap is another
# thing: it belongs to the device, and a mode that draws more feels it more.
THROTTLES = ("hw_slowdown", "sw_thermal", "hw_thermal", "power_brake", "thermal", "board_limit", "reliability")
POWER_CAP = "power_cap"
LEAST_SHARE = 0.01  # of a block's time: what moves no figure by more than the band of no change


@dataclass(frozen=True)
class DeviceReading:
    """One look at the device between two measurements. None is what it does not tell."""

    sm_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    limits: tuple[str, ...] | None  # what holds its clock down at this moment, in the words of `THROTTLES`
    limited_s: dict[str, float] | None  # seconds that each cause has held it down since the driver was loaded
    devices: tuple[DeviceReading, ...] = ()  # of several devices each one's own; above, what `together` makes of them


def limits_between(before: DeviceReading | None, after: DeviceReading | None, elapsed_s: float) -> tuple[str, ...]:
    """Everything that held the clock down: seen at the end, or by its counter for more than 1 % of the time.

    What was seen at the beginning only belongs to the block before.
    """
    if after is None:
        return ()
    causes = set(after.limits or ())
    if before is not None and before.limited_s is not None and after.limited_s is not None:
        causes |= {
            cause
            for cause, total_s in after.limited_s.items()
            if total_s - before.limited_s.get(cause, total_s) > LEAST_SHARE * elapsed_s
        }
    return tuple(sorted(causes))


def throttles(limits: tuple[str, ...]) -> tuple[str, ...]:
    """Those of them that make a block another device's."""
    return tuple(cause for cause in limits if cause in THROTTLES)


def tokens_sha256(ids: list[list[int]]) -> str:
    """A digest of ids, such as the new ones of one batch: equal digests, equal tokens."""
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
    steps: int  # new tokens of a sequence after the first pass that made one
    step_s: tuple[float, ...] | None  # one per pass after that in the "steps" lane
    tokens_sha256: str
    passes_checked: int  # forward passes held against the mode's promise; 0 for `generate`, which hides them here
    violations: int  # of those, the ones that broke it
    made: tuple[int, ...] = ()  # new tokens of each pass, where one may make several; empty where each makes one
    ranks: int = 1  # processes that decoded it together; the passes above are those of all of them
    ranks_apart: int = 0  # of them, those whose tokens are not rank 0's

    @property
    def first_tokens(self) -> int:
        """New tokens that the prefill has made, of all sequences."""
        return self.made[0] if self.made else self.sequences


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


@dataclass(frozen=True)
class ColdVisit:
    """The first visit of an arm: never averaged with the others."""

    arm: int
    ttft_s: float
    itl_s: float | None
    step_s: tuple[tuple[float, ...], ...]  # per batch, one per step
    compile_s: float | None = None  # of it, compiling and capturing; None: the arm's engine does neither


@dataclass(frozen=True)
class ColdEvidence:
    """What an arm's first visit paid for: its own attention and another one at unseen lengths; or why none was read."""

    arm: int
    probes: tuple[LengthProbe, ...]
    reason: str | None = None


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
