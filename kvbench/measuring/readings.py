"""Looks at the device and at memory from outside the measured work; None is what could not be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceReading:
    """One look at the device between two measurements. None is what it does not tell."""

    sm_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    limits: tuple[str, ...] | None  # what holds its clock down at this moment, in the words of `measuring.throttling`
    limited_s: dict[str, float] | None  # seconds that each cause has held it down since the driver was loaded


@dataclass(frozen=True)
class HostReading:
    """Memory seen from outside the measured process."""

    elapsed_s: float
    phase: str
    process_rss_bytes: int | None
    device_used_bytes: int | None


@dataclass(frozen=True)
class Watching:
    """Whether the parent shall go on reading the worker's memory."""

    on: bool
