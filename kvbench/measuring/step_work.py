"""What decoding consists of, as a profiler and a counter see it; never measured beside a timing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepWork:
    """What a decode step of one arm is made of, from an untimed run under a profiler; means over steps and batches.

    `device_busy_s` is the time in which the device computes, without the gaps in which it waits for the host; None
    where the host computes itself. `operations` are kernels on a device, operators of the tensor library on the host.
    `kernels` are those that take most of that time, and the attention that takes most, by name and share of it.
    """

    arm: int
    operations: float | None
    device_busy_s: float | None
    reason: str | None = None  # why something of it is None
    kernels: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class CountedFlops:
    """FLOPs of one prefill as torch's counter sees them under eager attention; None with the reason."""

    batch: int
    tokens: int
    flops: int | None
    reason: str | None = None
