"""The first visit of an arm, and what it paid for that later ones did not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ColdVisit:
    """The first visit of an arm: never averaged with the others."""

    arm: int
    ttft_s: float
    itl_s: float | None
    step_s: tuple[tuple[float, ...], ...]  # per batch, one per step
    prepared_s: float | None = None  # of it, compiling and capturing; None: the arm's engine does neither


@dataclass(frozen=True)
class LengthProbe:
    """A few steps at context lengths that this attention has not seen in this process, twice in a row.

    What the first time costs more than the second is paid for new lengths; `*_itl_s` are medians over the few steps,
    which one hiccup of the host would else decide. Allocations are those that torch's allocator
    made on the device, `driver_bytes` what the device's memory grew by outside of it (kernel code, plans).
    """

    attention: str
    context_length: int  # of the first step
    steps: int
    first_ttft_s: float
    second_ttft_s: float
    first_itl_s: float
    second_itl_s: float
    first_allocations: int | None
    second_allocations: int | None
    first_driver_bytes: int | None
    second_driver_bytes: int | None


@dataclass(frozen=True)
class ColdEvidence:
    """What an arm's first visit paid for: its own attention and another one at unseen lengths; or why none was read."""

    arm: int
    probes: tuple[LengthProbe, ...]
    reason: str | None = None
