"""What a figure depends on besides the code under test: versions, machine, device, process, other programs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

import kvbench
from kvbench.measuring.clocks import Clock, ScriptedClock
from kvbench.measuring.sensors import DeviceSensors

if TYPE_CHECKING:
    import torch

# The variable that names a compiler, and what is looked for where it is not set.
HOST_COMPILER = ("CXX", ("g++", "clang++"))  # torch.compile on the CPU
DEVICE_COMPILER = ("CC", ("gcc", "clang", "cc"))  # Triton's launchers


def found_compiler(device_type: str) -> str | None:
    """The compiler that a compiled step on a device of this type needs; None when there is none."""
    variable, usual = DEVICE_COMPILER if device_type == "cuda" else HOST_COMPILER
    stated = os.environ.get(variable)
    return next((name for name in ((stated,) if stated else usual) if shutil.which(name)), None)


# Cores that other programs keep busy.


SHORTEST_S = 0.05  # the system counts CPU time in hundredths of a second: below five of them it says nothing


class ForeignCpuLoad:
    """CPU time of the whole machine less that of this process, from its making on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # What the machine does in virtual time is nothing to speak of.
        self._began = None if isinstance(clock, ScriptedClock) else self._now()

    def busy(self, of_ranks: Callable[[float], Sequence[float]] = lambda own_s: (own_s,)) -> float | None:
        """Cores kept busy by others on average; None when the time was too short, or is virtual.

        `of_ranks` gives from this process's CPU seconds those of every rank, none of which is another program.
        """
        if self._began is None:
            return None
        wall_s, all_s, own_s = (now - then for now, then in zip(self._now(), self._began, strict=True))
        ranks_s = sum(of_ranks(own_s))
        return max(0.0, (all_s - ranks_s) / wall_s) if wall_s >= SHORTEST_S else None

    def _now(self) -> tuple[float, float, float]:
        machine, process = psutil.cpu_times(), psutil.Process().cpu_times()
        # A guest's time is within the user's; waiting for a disk keeps no core busy.
        all_s = machine.user + machine.system + getattr(machine, "nice", 0.0) + getattr(machine, "irq", 0.0)
        all_s += getattr(machine, "softirq", 0.0) + getattr(machine, "steal", 0.0)
        return self._clock.now_ns() * 1e-9, all_s, process.user + process.system


# The environment as a record holds it.


GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# What must be equal for a finished run to count as this one, and is known before a model is loaded.
STABLE = ("python", "torch", "transformers", "cuda", "driver", "device_name", "cpu", "threads")
ALL_DEVICES = "device_names"  # must be equal too for a model that is spread over them
# Variables that change what is computed or how fast, by prefix.
SPEAKING = (
    *("CUDA_", "CUBLAS", "CUDNN", "NVIDIA_TF32", "NVIDIA_VISIBLE", "TORCH", "PYTORCH_", "HIP_", "ROCR_"),
    *("OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_"),
)

# What nobody writes into a record that goes to others, whatever else the name says.
SECRETS = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(^|_)(API_?|ACCESS_?|PRIVATE_?)?KEYS?(_|$)|AUTH|COOKIE")
PLACES = ("_DIR", "_HOME", "_PATH", "_ROOT", "_FILE")


def base_environment() -> dict[str, Any]:
    """What is known without torch: Python, machine, this process, the code's commit."""
    return {
        **_constant_environment(),
        # Jobs of a launched sweep share the cores out among them.
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "variables": _variables(),
        "cpu_governor": _cpu_governor(GOVERNOR),
        "on_battery": _on_battery(),
    }


@cache
def _constant_environment() -> dict[str, Any]:
    """What does not change while this process runs: a sweep asks for it at every point."""
    commit, dirty = _git_state(Path(kvbench.__file__).parent)
    return {
        "python": platform.python_version(),
        "kvbench": kvbench.__version__,
        "git_commit": commit,
        "git_dirty": dirty,
        "os": platform.platform(),
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "logical_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "worker": {
            "pid": os.getpid(),
            "started_at": datetime.fromtimestamp(psutil.Process().create_time(), UTC).isoformat(),
        },
    }


def _variables() -> dict[str, str]:
    """Those that change results or speed; where something lies on this machine is nobody's business."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(SPEAKING) and not name.endswith(PLACES) and not SECRETS.search(name.upper())
    }


def torch_environment(device: torch.device, sensors: DeviceSensors) -> dict[str, Any]:
    """The whole environment of a run on `device`."""
    import torch
    import transformers

    on_gpu = device.type == "cuda"
    return {
        **base_environment(),
        "torch": str(torch.__version__),  # a class of torch's own would import it where this is unpickled
        "torch_debug": bool(torch.version.debug),
        "transformers": transformers.__version__,
        "accelerate": version("accelerate"),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
        "device_names": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "device_memory_bytes": torch.cuda.get_device_properties(device).total_memory if on_gpu else None,
        "device_uuid": device_uuid(device),
        "threads": torch.get_num_threads(),
        "compiler": found_compiler(device.type),
        "load_average_1m": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        **sensors.facts(),
        **neighbours(sensors),
    }


def neighbours(sensors: DeviceSensors) -> dict[str, Any]:
    """Processes that compute on the device; how many besides this one, None where ours is not among them."""
    listed = sensors.processes()
    known = listed is not None and os.getpid() in listed
    return {"device_processes": listed, "other_device_processes": len(listed or ()) - 1 if known else None}


def device_uuid(device: torch.device) -> str | None:
    """The device's UUID as NVML writes it, or None off NVIDIA hardware."""
    import torch

    if device.type != "cuda" or torch.version.hip is not None:
        return None
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def _cpu_governor(file: Path) -> str | None:
    """What sets the first core's clock on Linux, or None where the system does not tell, as in most containers."""
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _on_battery() -> bool | None:
    """Whether the power cord is out; None without a battery."""
    sensor = getattr(psutil, "sensors_battery", None)
    battery = sensor() if sensor is not None else None
    return None if battery is None or battery.power_plugged is None else not battery.power_plugged


@cache
def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache  # what counts is the code as it was loaded
def _git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit and dirtiness of the checkout that the code runs from; (None, None) for an installed package."""
    try:
        state = subprocess.run(
            ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", "."],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None, None
    commit = next((line.split()[-1] for line in state if line.startswith("# branch.oid ")), None)
    if commit == "(initial)":  # a repository without a commit
        return None, None
    return commit, any(not line.startswith("#") for line in state)
