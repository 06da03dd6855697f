"""Whether something is predicted to fit into a device's free memory, before it is allocated."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from kvbench.errors import Infeasible

GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")


def require_fit(needed_bytes: int, device: torch.device, what: str) -> None:
    """Raise `Infeasible` when `what`, "the weights" say, needs more bytes than `device` has free now."""
    check_fit(needed_bytes, free_bytes(device), what, str(device))


def check_fit(needed_bytes: int, free_bytes: int, what: str, place: str) -> None:
    """Raise `Infeasible` with both figures in GiB when `needed_bytes` exceeds `free_bytes`."""
    if needed_bytes > free_bytes:
        raise Infeasible(
            f"predicted not to fit: {what}: {needed_bytes / GIB:.2f} GiB needed, {free_bytes / GIB:.2f} GiB free on"
            f" {place}; use a smaller model, a narrower model.dtype, fewer or shorter prompts, or another device"
        )


def free_bytes(device: torch.device) -> int:
    """Bytes that a new allocation on `device` may take now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch's allocator holds without using it is free to us, though not to others.
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return _host_free_bytes()


def free_bytes_everywhere() -> int:
    """Bytes free on all GPUs and on the host together: what `model.device_map=auto` may spread over."""
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return sum(free_bytes(device) for device in [*gpus, torch.device("cpu")])


def _host_free_bytes() -> int:
    available = int(psutil.virtual_memory().available)
    limit = _number(CGROUP / "memory.max")
    used = _number(CGROUP / "memory.current")
    if limit is None or used is None:
        return available
    # A container's limit is invisible to psutil. Page cache counts as used there but gives way.
    return min(available, limit - used + _page_cache_bytes())


def _number(file: Path) -> int | None:
    text = file.read_text().strip() if file.is_file() else "max"
    return int(text) if text != "max" else None


def _page_cache_bytes() -> int:
    lines = (CGROUP / "memory.stat").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
