"""The devices of this host that a launched sweep spreads over, told without torch, and the cores that go with each."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kvbench.config.schema import Config
from kvbench.running.leases import SCRIPTED_DEVICE, scripted_lease

VISIBLE = "CUDA_VISIBLE_DEVICES"


def device_choices(config: Config, environ: Mapping[str, str] = os.environ) -> list[tuple[str, dict[str, str]]]:
    """The devices that a point may be measured on: the lease of each, and the variables that have a worker use it.

    Empty where the point names its device, needs several, or where this host's devices cannot be told: then the worker
    takes what the configuration says.
    """
    if config.model.weights == "scripted":
        count = config.model.devices or 0
        return [(scripted_lease(index), {SCRIPTED_DEVICE: str(index)}) for index in range(count)]
    if config.device not in ("auto", "cuda") or config.model.device_map is not None:
        return []
    return [(uuid, {VISIBLE: uuid}) for uuid in visible_gpus(environ)]


def visible_gpus(environ: Mapping[str, str], nvml: Any = None) -> list[str]:
    """The UUIDs of the NVIDIA GPUs that a process with these variables may use; empty where that is not certain."""
    try:
        nvml = nvml or importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:
        return []
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        if any(_is_cut(nvml, handle) for handle in handles):
            return []
        every = [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        kinds = {_text(nvml.nvmlDeviceGetName(handle)) for handle in handles}
    except Exception:
        return []
    finally:
        with suppress(Exception):
            nvml.nvmlShutdown()
    return _listed(every, environ, same_order=len(kinds) <= 1 or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID")


def _listed(every: Sequence[str], environ: Mapping[str, str], *, same_order: bool) -> list[str]:
    """Those that CUDA_VISIBLE_DEVICES lists. CUDA numbers unlike GPUs by their speed, and NVML by their place."""
    names = environ.get(VISIBLE)
    if names is None:
        return list(every)
    found = []
    for name in filter(None, map(str.strip, names.split(","))):
        if name.isdecimal():
            if not same_order or int(name) >= len(every):
                return []
            found.append(every[int(name)])
        else:
            whole = [uuid for uuid in every if uuid.startswith(name)]
            if len(whole) != 1:
                return []
            found += whole
    return found


def _is_cut(nvml: Any, handle: Any) -> bool:
    """Whether MIG cuts the GPU into several devices."""
    try:
        return any(nvml.nvmlDeviceGetMigMode(handle))
    except Exception:  # a device that knows no MIG
        return False


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def cores_of(lane: int, lanes: int, cores: Sequence[int]) -> list[int]:
    """The cores of one of several jobs of a host: neighbouring ones, and none that another job has.

    Where there are fewer cores than jobs, a core has several jobs, which wait for each other on the CPU.
    """
    if lanes >= len(cores):
        return [cores[lane % len(cores)]]
    return list(cores[lane * len(cores) // lanes : (lane + 1) * len(cores) // lanes])
