"""Which device torch can use here, and whether something is predicted to fit into its free memory."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from kvbench.errors import DeviceUnavailable, Infeasible


def resolve(device: str) -> torch.device:
    """The device behind "auto", "cpu", "cuda", "cuda:N" or "mps"; auto prefers CUDA, then MPS, then the CPU.

    ROCm calls itself cuda in torch. Raises `DeviceUnavailable` when torch does not see the device.
    """
    if device == "auto":
        return torch.device(_best())
    wanted = torch.device(device)
    if wanted.type == "cuda":
        return _cuda(wanted.index or 0)
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable(f"device=mps: torch sees no Apple GPU here; {_seen()}")
    return wanted


def require_dtype(dtype: str, device: torch.device) -> None:
    """Raise `DeviceUnavailable` when `device` cannot compute in `dtype`, a name such as "float64"."""
    if dtype == "float64" and device.type == "mps":
        raise DeviceUnavailable("model.dtype=float64: Apple's GPUs have no float64; use float32, or device=cpu")


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _cuda(index: int) -> torch.device:
    if not torch.cuda.is_available():
        raise DeviceUnavailable(f"device=cuda: torch sees no CUDA or ROCm GPU here; {_seen()}")
    if index >= torch.cuda.device_count():
        raise DeviceUnavailable(f"device=cuda:{index}: there is no such GPU; {_seen()}")
    return torch.device("cuda", index)


def _seen() -> str:
    """What torch can use instead, and what it was built for, in half a sentence."""
    usable = ["cpu"]
    if torch.backends.mps.is_available():
        usable.append("mps")
    if torch.cuda.is_available():
        usable += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    built_for = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    build = f"torch {torch.__version__}"
    gpu_build = (
        f" (built for {built_for})" if torch.version.hip or torch.version.cuda else " (built without GPU support)"
    )
    return f"{build}{gpu_build} can use {', '.join(usable)}"


# Whether something is predicted to fit into a device's free memory, before it is allocated.


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
