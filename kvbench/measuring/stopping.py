"""Stopping rules: declared before a run, pure, and never "until it is significant"."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kvbench.config.schema import MOST_BLOCKS, MeasureConfig
from kvbench.statistics import ratio_interval


class StoppingRule(Protocol):
    """Told of every finished block; asked before every next one."""

    def reason_to_stop(self, decode_s: Sequence[Sequence[float]], elapsed_s: float) -> str | None:
        """`decode_s[block][arm]` so far and the seconds of measuring; the reason, or None to go on."""


@dataclass(frozen=True)
class Fixed:
    """Exactly `blocks` blocks."""

    blocks: int

    def reason_to_stop(self, decode_s: Sequence[Sequence[float]], elapsed_s: float) -> str | None:  # noqa: ARG002
        """When the blocks are measured."""
        return f"{self.blocks} blocks measured" if len(decode_s) >= self.blocks else None


@dataclass(frozen=True)
class Budget:
    """At least `blocks` blocks, then until `budget_s` seconds have passed."""

    blocks: int
    budget_s: float

    def reason_to_stop(self, decode_s: Sequence[Sequence[float]], elapsed_s: float) -> str | None:
        """When both are reached, or more blocks than a record can hold."""
        if len(decode_s) >= MOST_BLOCKS:
            return f"cap: {MOST_BLOCKS:,} blocks measured before the budget of {self.budget_s:g} s was used"
        if len(decode_s) < self.blocks or elapsed_s < self.budget_s:
            return None
        return f"budget of {self.budget_s:g} s used, {len(decode_s)} blocks measured"


@dataclass(frozen=True)
class Precision:
    """Until every candidate's speed-up over the first arm is known within `half_width`, relative.

    The caps `max_blocks` and `budget_s` end it before that; the reason then begins with "cap".
    """

    blocks: int
    half_width: float
    max_blocks: int
    budget_s: float

    def reason_to_stop(self, decode_s: Sequence[Sequence[float]], elapsed_s: float) -> str | None:
        """When the target is reached, or a cap."""
        count = len(decode_s)
        if count < self.blocks:
            return None
        if count >= 2 and self._widest(decode_s) <= self.half_width:
            return f"speed-up known within {self.half_width:.2%} after {count} blocks"
        if count >= self.max_blocks:
            return f"cap: {self.max_blocks} blocks measured before the target precision"
        if elapsed_s >= self.budget_s:
            return f"cap: {self.budget_s:g} s used before the target precision"
        return None

    def _widest(self, decode_s: Sequence[Sequence[float]]) -> float:
        widths = []
        if min(map(min, decode_s)) <= 0:  # sequences that ended with their first token have no speed to compare
            return math.inf
        for arm in range(1, len(decode_s[0])):
            interval = ratio_interval([block[0] / block[arm] for block in decode_s])
            widths.append((interval.high - interval.low) / (2 * interval.value))
        return max(widths)


def stopping_rule(measure: MeasureConfig) -> StoppingRule:
    """The rule that the configuration declares."""
    if measure.stopping == "budget":
        return Budget(measure.blocks, measure.budget_s)
    if measure.stopping == "precision":
        return Precision(measure.blocks, measure.precision, measure.max_blocks, measure.budget_s)
    return Fixed(measure.blocks)
