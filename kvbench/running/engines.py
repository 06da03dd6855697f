"""From the name of an engine to what executes an arm's passes."""

from __future__ import annotations

import torch

from kvbench.decoding.engines.compiled import Compiled
from kvbench.decoding.engines.eager import EAGER
from kvbench.decoding.engines.graph import Graph
from kvbench.decoding.engines.protocol import Engine
from kvbench.plan import Arm


def engine_of(arm: Arm, device: torch.device) -> Engine:
    """A new engine for one arm."""
    match arm.engine:
        case "compiled":
            assert arm.compile_mode is not None
            return Compiled(device, arm.compile_mode)
        case "graph":
            return Graph(device)
        case _:
            return EAGER
