"""Whether a device is certainly missing, by torch's build, the driver's files and NVML; torch is not imported."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kvbench.errors import DeviceUnavailable

BUILT_FOR = re.compile(r"^(cuda|hip)\b[^=]*=\s*(.+)$", re.MULTILINE)
VERSION = re.compile(r"^__version__\s*=\s*['\"](.+)['\"]$", re.MULTILINE)
# Any of these may lead to a CUDA device: NVIDIA's driver, Jetson's, Windows beneath Linux, AMD's.
DRIVER_FILES = ("nvidiactl", "nvidia0", "nvhost-ctrl", "nvmap", "nvgpu", "dxg", "kfd")
DEV = Path("/dev")


def require_device(device: str) -> None:
    """Raise `DeviceUnavailable` when torch cannot find the device that a configuration names."""
    kind, _, index = device.partition(":")
    if kind == "mps" and sys.platform != "darwin":
        raise DeviceUnavailable(f"device={device}: Apple's GPUs are used on macOS alone; use device=auto or cpu")
    if kind == "cuda" and (reason := _no_cuda()):
        raise DeviceUnavailable(f"device={device}: {reason}; use device=auto or cpu")
    if kind == "cuda" and index:
        most = most_devices(os.environ)
        if most is not None and int(index) >= most:
            usable = "no device" if most == 0 else ", ".join(f"cuda:{number}" for number in range(most))
            raise DeviceUnavailable(f"device={device}: there is no such GPU; torch can use {usable}")


@cache
def _no_cuda() -> str | None:
    """Why no CUDA or ROCm device can be had, or None where there may be one."""
    if without_gpu := build_without_gpu(_torch_version_file()):
        return without_gpu
    if not sys.platform.startswith("linux") or any((DEV / name).exists() for name in DRIVER_FILES):
        return None
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no GPU driver on this machine (neither device files nor libcuda.so.1)"
    return None


def build_without_gpu(version_file: str | None) -> str | None:
    """What to say of a torch that was built for the CPU alone, by the text of its version.py; None of any other."""
    if version_file is None:
        return None
    built_for = {name: value.strip() for name, value in BUILT_FOR.findall(version_file)}
    if built_for.get("cuda") != "None" or built_for.get("hip") != "None":
        return None
    version = VERSION.search(version_file)
    return f"torch {version[1] if version else ''} is built without GPU support: install one that is built with it"


def _torch_version_file() -> str | None:
    found = importlib.util.find_spec("torch")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder) / "version.py"
        if file.is_file():
            return file.read_text(encoding="utf-8", errors="replace")
    return None


def most_devices(environ: Mapping[str, str], nvml: Any = None) -> int | None:
    """No more NVIDIA devices than this can be seen; None where that is not certain, as with MIG or without NVML."""
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    names = None if listed is None else [name for name in listed.split(",") if name.strip()]
    if names is not None and any(name.strip().startswith("MIG") for name in names):
        return None
    count = _nvml_count(nvml)
    if count is None:
        return None
    return count if names is None else min(count, len(names))


def _nvml_count(nvml: Any) -> int | None:
    """Devices that NVML lists; None where it cannot tell, or where one is cut into several by MIG."""
    try:
        nvml = nvml or importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:
        return None
    try:
        count = int(nvml.nvmlDeviceGetCount())
        return None if any(_is_cut(nvml, index) for index in range(count)) else count
    except Exception:
        return None
    finally:
        nvml.nvmlShutdown()


def _is_cut(nvml: Any, index: int) -> bool:
    try:
        return any(nvml.nvmlDeviceGetMigMode(nvml.nvmlDeviceGetHandleByIndex(index)))
    except Exception:  # a device that knows no MIG
        return False
