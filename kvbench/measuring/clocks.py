"""Time, on the host and on the device, behind one interface; the scripted clock has no hardware at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Clock(Protocol):
    """Host time in nanoseconds, and marks on the timeline where the work happens."""

    has_device_timeline: bool  # whether marks lie on another timeline than the host's

    def now_ns(self) -> int:
        """Host time."""

    def wait(self, seconds: float) -> None:
        """Let time pass with nothing to do."""

    def synchronise(self) -> None:
        """Wait until the device has done everything submitted so far."""

    def mark(self) -> Any:
        """A point on the timeline of the work, without waiting for it."""

    def between_s(self, first: Any, second: Any) -> float:
        """Seconds from one mark to a later one; call after `synchronise`."""


class HostClock:
    """For work that is done when its call returns: the CPU."""

    has_device_timeline = False

    def now_ns(self) -> int:
        """Host time in nanoseconds."""
        return time.perf_counter_ns()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def synchronise(self) -> None:
        """Nothing to wait for."""

    def mark(self) -> int:
        """The host time."""
        return time.perf_counter_ns()

    def between_s(self, first: int, second: int) -> float:
        """Seconds from one mark to a later one."""
        return (second - first) * 1e-9


class DeviceClock:
    """For work that runs behind the host's back, on CUDA, ROCm or MPS: marks are device events."""

    has_device_timeline = True

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._backend = torch.mps if device.type == "mps" else torch.cuda
        self._event = torch.mps.event.Event if device.type == "mps" else torch.cuda.Event

    def now_ns(self) -> int:
        """Host time in nanoseconds."""
        return time.perf_counter_ns()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def synchronise(self) -> None:
        """Wait until the device has done everything submitted so far."""
        if self._device.type == "mps":
            self._backend.synchronize()
        else:
            self._backend.synchronize(self._device)

    def mark(self) -> Any:
        """An event recorded on the current stream."""
        event = self._event(enable_timing=True)
        event.record()
        return event

    def between_s(self, first: Any, second: Any) -> float:
        """Seconds from one mark to a later one."""
        return float(first.elapsed_time(second)) * 1e-3


class ScriptedClock:
    """Virtual time: it stands still until someone spends some. `on_spend` is told the seconds, and whether of work."""

    has_device_timeline = False

    def __init__(self) -> None:
        self._now_s = 0.0
        self.on_spend: Callable[[float, bool], None] | None = None

    def spend(self, seconds: float, *, working: bool = True) -> None:
        """Let time pass."""
        self._now_s += seconds
        if self.on_spend is not None:
            self.on_spend(seconds, working)

    def wait(self, seconds: float) -> None:
        """Move virtual time on."""
        self.spend(seconds, working=False)

    def now_ns(self) -> int:
        """Virtual time in nanoseconds."""
        return round(self._now_s * 1e9)

    def synchronise(self) -> None:
        """Nothing to wait for."""

    def mark(self) -> float:
        """The virtual time in seconds, unrounded."""
        return self._now_s

    def between_s(self, first: float, second: float) -> float:
        """Seconds from one mark to a later one."""
        return second - first
