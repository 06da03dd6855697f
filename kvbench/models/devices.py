"""Which device torch can really use here."""

from __future__ import annotations

import torch

from kvbench.errors import DeviceUnavailable


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
