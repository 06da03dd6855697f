"""Bytes in use, from torch's allocator, the process and the device: three views of one thing."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import torch

from kvbench.measuring.environment import device_uuid
from kvbench.measuring.sensors import DeviceSensors, open_sensors
from kvbench.records.evidence import Reconciliation

# What the process holds.


STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc(5)


def reset_peak() -> None:
    """Give free memory back and start the high-water mark anew; outside of Linux it covers the whole process."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # else what an earlier pass left in the heap would count for this one
    with suppress(OSError):
        CLEAR_REFS.write_text(RESET_PEAK)


def peak_bytes() -> int:
    """The most resident memory since `reset_peak`, in bytes."""
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# What torch's allocator and the device hold.


NO_ALLOCATOR = "torch keeps no allocator statistics on {device}"
LOADED_BEFORE = "the model was on the device before its empty memory could be read"


@dataclass(frozen=True)
class Footprint:
    """Device memory in use before this process touched the device, and what starting CUDA added to it."""

    elsewhere_bytes: int
    context_bytes: int


@cache
def footprint(device: torch.device) -> Footprint | None:
    """Start CUDA and see what that takes. Only the first call in a process can know: later ones get its answer.

    None where there is no CUDA, no reading, or where torch has allocated already.
    """
    if device.type != "cuda" or torch.cuda.memory_reserved(device):
        return None
    sensors = open_sensors(device_uuid(device))
    before = sensors.used_bytes()
    torch.zeros(1, device=device)  # the context is made by the first kernel, not by asking for the device
    torch.cuda.synchronize(device)
    after = sensors.used_bytes()
    if before is None or after is None:
        return None
    return Footprint(before, after - before - torch.cuda.memory_reserved(device))


def summed(footprints: Sequence[Footprint | None]) -> Footprint | None:
    """Of several devices, all of it; None where one of them is not known."""
    known = [each for each in footprints if each is not None]
    if len(known) < len(footprints):
        return None
    return Footprint(sum(each.elsewhere_bytes for each in known), sum(each.context_bytes for each in known))


class MemoryMeter:
    """High-water marks of the allocator between `reset` and reading, and current process and device memory."""

    def __init__(
        self,
        device: torch.device,
        sensors: DeviceSensors,
        empty: Footprint | None = None,
        devices: Sequence[torch.device] = (),
    ) -> None:
        """Of a model that is spread, `devices` are all that it is on, and every figure is their sum."""
        self._device = device
        self._devices = tuple(devices) or (device,)
        self._sensors = sensors
        self._empty = empty
        self._outside_at_reset: int | None = None
        self._replayed_bytes = 0
        self._replay_peak = 0
        self._process = psutil.Process()
        self.null_reasons: dict[str, str] = {}
        if device.type != "cuda":
            reason = NO_ALLOCATOR.format(device=device.type)
            names = ("peak_allocated_bytes", "peak_reserved_bytes", "reconciliation")
            self.null_reasons |= dict.fromkeys(names, reason)
        elif empty is None:
            self.null_reasons["reconciliation"] = sensors.reason or LOADED_BEFORE

    def reset(self, replayed_bytes: int = 0) -> None:
        """Empty the allocator's cache and start its high-water marks anew.

        `replayed_bytes` is what a pass takes that allocates nothing, since it is replayed over memory kept for it.
        """
        self._replayed_bytes, self._replay_peak = replayed_bytes, 0
        gc.collect()
        if self._device.type == "cuda":
            for each in self._devices:
                torch.cuda.synchronize(each)
            torch.cuda.empty_cache()
            for each in self._devices:
                torch.cuda.reset_peak_memory_stats(each)
            self._outside_at_reset = self.outside_bytes()
        elif self._device.type == "mps":
            torch.mps.empty_cache()

    def allocated_bytes(self) -> int | None:
        """Held by tensors now."""
        return sum(map(torch.cuda.memory_allocated, self._devices)) if self._device.type == "cuda" else None

    def outside_bytes(self) -> int | None:
        """The device's memory in use that torch's allocator did not reserve: context, kernels, other processes."""
        used = self._sensors.used_bytes() if self._device.type == "cuda" else None
        return None if used is None else used - sum(map(torch.cuda.memory_reserved, self._devices))

    def device_allocations(self) -> int | None:
        """How often torch's allocator has asked the device for memory so far."""
        if self._device.type != "cuda":
            return None
        return sum(int(torch.cuda.memory_stats(each).get("num_device_alloc", 0)) for each in self._devices)

    def in_use(self) -> dict[str, int | None]:
        """Device and process memory now; read it while the cache is alive."""
        self._replay_peak = (self.allocated_bytes() or 0) + self._replayed_bytes
        used = self._sensors.used_bytes()
        if used is None:
            self.null_reasons["device_used_bytes"] = self._sensors.reason or "the device does not tell"
        return {
            "device_used_bytes": used,
            "process_rss_bytes": self._process.memory_info().rss,
        }

    def peaks(self) -> dict[str, int | None]:
        """The allocator's high-water marks since `reset`."""
        on_gpu = self._device.type == "cuda"
        return {
            "peak_allocated_bytes": self._peak() if on_gpu else None,
            "peak_reserved_bytes": sum(map(torch.cuda.max_memory_reserved, self._devices)) if on_gpu else None,
        }

    def reconcile(self, weights_bytes: int | None, kv_cache_bytes: int | None) -> Reconciliation | None:
        """Account for the device's memory now, before anything is given back; None with a reason when it cannot be."""
        empty, outside = self._empty, self._outside_at_reset
        used = self._sensors.used_bytes() if empty is not None else None
        if empty is None or outside is None or used is None or weights_bytes is None or kv_cache_bytes is None:
            self.null_reasons.setdefault("reconciliation", self._sensors.reason or "one of its parts is not known")
            return None
        peak = self._peak()
        reserved = sum(map(torch.cuda.max_memory_reserved, self._devices))
        kernels = outside - empty.elsewhere_bytes - empty.context_bytes
        return Reconciliation(
            weights_bytes=weights_bytes,
            kv_cache_bytes=kv_cache_bytes,
            step_peak_bytes=peak - weights_bytes - kv_cache_bytes,
            allocator_slack_bytes=reserved - peak,
            device_context_bytes=empty.context_bytes,
            kernels_bytes=kernels,
            elsewhere_bytes=empty.elsewhere_bytes,
            device_used_bytes=used,
            unexplained_bytes=used - reserved - empty.context_bytes - kernels - empty.elsewhere_bytes,
        )

    def _peak(self) -> int:
        return max(sum(map(torch.cuda.max_memory_allocated, self._devices)), self._replay_peak)
