"""What a run needs of this machine: one process, packages, a device, a folder to write to, and a plan that fits."""

from __future__ import annotations

import ctypes
import errno
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kvbench.capabilities import ATTENTION_PACKAGES, QUANTIZATIONS, CacheKind
from kvbench.config.schema import Config
from kvbench.errors import ConfigError, DeviceUnavailable, RecordError
from kvbench.library_versions import too_old
from kvbench.plan import Plan, make_plan
from kvbench.readiness.model_files import found_folder, require_lengths, require_target

BUILT_FOR = re.compile(r"^(cuda|hip)\b[^=]*=\s*(.+)$", re.MULTILINE)
VERSION = re.compile(r"^__version__\s*=\s*['\"](.+)['\"]$", re.MULTILINE)
# Any of these may lead to a CUDA device: NVIDIA's driver, Jetson's, Windows beneath Linux, AMD's.
DRIVER_FILES = ("nvidiactl", "nvidia0", "nvhost-ctrl", "nvmap", "nvgpu", "dxg", "kfd")
DEV = Path("/dev")
# Variables that tell one of several processes how many there are, with another that each launcher sets beside it, and
# the launcher's name. SLURM_NTASKS is not among them: a batch script that starts one process has it too.
COUNTS = {
    "WORLD_SIZE": ("RANK", "torchrun or a launcher like it"),
    "OMPI_COMM_WORLD_SIZE": ("OMPI_COMM_WORLD_RANK", "mpirun"),
    "MV2_COMM_WORLD_SIZE": ("MV2_COMM_WORLD_RANK", "mpirun"),
    "PMI_SIZE": ("PMI_RANK", "mpirun"),
    "SLURM_STEP_NUM_TASKS": ("SLURM_PROCID", "srun"),
}


def ready_plan(config: Config) -> Plan:
    """The plan of a checked configuration that this machine can measure as far as can be told within a second.

    Raises `BadInput`: packages, prompt files, the device, the model's files or folder, the lengths of the prompts.
    """
    require_packages(config)
    plan = make_plan(config)
    if config.model.weights == "scripted":
        return plan
    require_device(config.device)
    require_target(config.model)
    folder = found_folder(config.model)
    if folder is not None:
        require_lengths(plan, folder)
    return plan


def require_one_process(environ: Mapping[str, str] = os.environ) -> None:
    """Raise `ConfigError` where a launcher has started this program more than once: no run is spread over processes."""
    for count, (rank, launcher) in COUNTS.items():
        number = environ.get(count, "")
        if rank in environ and number.isdecimal() and int(number) > 1:
            raise ConfigError(
                f"{launcher} has started {number} processes ({count}={number}), and each would measure the whole model"
                " by itself while the others disturb its times: start one, without the launcher"
            )


def require_results_dir(results_dir: str) -> None:
    """Raise `RecordError` when the folder cannot be made, or nothing can be made in it."""
    folder = Path(results_dir).absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    reason = errno.ENOTDIR if not nearest.is_dir() else None if os.access(nearest, os.W_OK | os.X_OK) else errno.EACCES
    if reason is not None:
        raise RecordError(
            f"results_dir={results_dir}: cannot create {Path(results_dir)} ({os.strerror(reason)}); choose one you can"
            " write to"
        )


def require_packages(config: Config) -> None:
    """Raise `ConfigError` for a choice whose package is not installed, or for a library that is too old.

    Apart from `check`, since a configuration is right or wrong wherever it is read.
    """
    missing = None if config.model.weights == "scripted" else too_old()
    missing = missing or _without_weights_package(config.model.quantization)
    for arm in config.every_arm:
        missing = missing or _without_attention_package(arm.attention) or _without_cache_package(arm.cache_kind)
    if missing is not None:
        raise ConfigError(missing)


def is_installed(module: str) -> bool:
    """Whether a module could be imported here."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def _without_attention_package(name: str) -> str | None:
    package, module = ATTENTION_PACKAGES.get(name, (None, None))
    return _missing(f"attention={name}", package, module, "install it, or use another")


def _without_cache_package(kind: CacheKind | None) -> str | None:
    if kind is None:
        return None
    return _missing(f"cache={kind.name}", kind.package, kind.package, f"pip install 'kvbench[{kind.backend}]'")


def _without_weights_package(quantization: str) -> str | None:
    package = QUANTIZATIONS[quantization].package
    return _missing(f"model.quantization={quantization}", package, package, f"pip install 'kvbench[{package}]'")


def _missing(choice: str, package: str | None, module: str | None, remedy: str) -> str | None:
    """Why a package that a choice needs is not there, or None when it is. Looking for one does not import it."""
    if module is None or is_installed(module):
        return None
    return f"{choice} needs the package {package}, which is not installed: {remedy}"


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
