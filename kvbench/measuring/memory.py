"""Bytes in use, from torch's allocator, the process and the device: three views of one thing."""

from __future__ import annotations

import gc

import psutil
import torch

from kvbench.measuring.sensors import DeviceSensors

NO_ALLOCATOR = "torch keeps no allocator statistics on {device}"


class MemoryMeter:
    """High-water marks of the allocator between `reset` and reading, and current process and device memory."""

    def __init__(self, device: torch.device, sensors: DeviceSensors) -> None:
        self._device = device
        self._sensors = sensors
        self._process = psutil.Process()
        self.null_reasons: dict[str, str] = {}
        if device.type != "cuda":
            reason = NO_ALLOCATOR.format(device=device.type)
            self.null_reasons |= {"peak_allocated_bytes": reason, "peak_reserved_bytes": reason}

    def reset(self) -> None:
        """Empty the allocator's cache and start its high-water marks anew."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
        elif self._device.type == "mps":
            torch.mps.empty_cache()

    def allocated_bytes(self) -> int | None:
        """Held by tensors now."""
        return torch.cuda.memory_allocated(self._device) if self._device.type == "cuda" else None

    def in_use(self) -> dict[str, int | None]:
        """Device and process memory now; read it while the cache is alive."""
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
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(self._device) if on_gpu else None,
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(self._device) if on_gpu else None,
        }
