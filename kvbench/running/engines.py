"""From the name of an engine to what executes an arm's passes, and what it needs of the machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

import torch

from kvbench.arm import Arm
from kvbench.decoding.engines.compiled import Compiled
from kvbench.decoding.engines.eager import EAGER
from kvbench.decoding.engines.graph import Graph
from kvbench.decoding.engines.protocol import Engine
from kvbench.errors import DeviceUnavailable
from kvbench.measuring.environment import found_compiler


def engine_of(arm: Arm, device: torch.device) -> Engine:
    """A new engine for one arm."""
    match arm.engine:
        case "compiled":
            assert arm.compile_mode is not None
            return Compiled(device, arm.compile_mode)
        case "graph":
            return Graph(device)
        case "fused":
            from kvbench.decoding.engines.fused.engine import Fused  # Triton is there on a GPU alone

            return Fused(device)
        case _:
            return EAGER


def require_engines(arms: Iterable[Arm], device: torch.device) -> None:
    """Raise `DeviceUnavailable` when an engine lacks a compiler on this machine."""
    for name in sorted({arm.engine for arm in arms} & {"compiled", "fused"}):
        missing = _missing_on_gpu() if device.type == "cuda" else _missing_on_host()
        if missing:
            raise DeviceUnavailable(f"engine={name}: {missing}, or use engine=eager")


def _missing_on_gpu() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed: pip install triton"
    if found_compiler("cuda") is None:
        return "Triton found no C compiler: install gcc or set CC"
    return None


def _missing_on_host() -> str | None:
    return None if found_compiler("cpu") else "torch.compile found no C++ compiler: install g++ or set CXX"
