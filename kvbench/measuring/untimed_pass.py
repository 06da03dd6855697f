"""What one arm produced and held when nobody was timing, and whether it did what its mode promises."""

from __future__ import annotations

from dataclasses import dataclass

from kvbench.measuring.arm_memory import ArmMemory, MemoryAtStep


@dataclass(frozen=True)
class Proof:
    """Whether every step submitted what its mode promises."""

    steps_checked: int
    violations: int
    first_violation: str | None = None
    resubmitted: int = 0  # of the violations, passes after the first that submitted the whole context to a mode's past
    unseen: tuple[str, ...] = ()  # what could not be looked at, in words


@dataclass(frozen=True)
class UntimedPass:
    """What one arm produced and held when nobody was timing."""

    arm: int
    tokens: tuple[tuple[int, ...], ...]  # new ids per sequence in prompt order
    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...]  # "stop" or "length"
    tokens_sha256: tuple[str, ...]  # per batch
    memory: ArmMemory
    memory_by_step: tuple[MemoryAtStep, ...]
    proof: Proof
