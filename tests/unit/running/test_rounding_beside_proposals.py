"""Rounding is taken to be what passes of many tokens do, wherever an arm has such passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.config.compose import load_config, sources
from kvbench.decoding.generate import Generate
from kvbench.decoding.loops import NoCacheLoop
from kvbench.measuring.sensors import NullSensors
from kvbench.models.loading import adopt
from kvbench.passes import UNINTERRUPTED
from kvbench.plan import make_plan
from kvbench.running.arm_decoders import ArmDecoders
from kvbench.running.model_on_device import ModelOnDevice


@pytest.mark.parametrize(("mode", "plain"), [("prompt_lookup", NoCacheLoop), ("generate", Generate)])
def test_the_first_arm_is_recomputed_where_another_checks_proposed_tokens(
    tiny_model: Callable[..., Any], mode: str, plain: type
) -> None:
    model = ModelOnDevice(adopt(tiny_model("llama"), None, "tiny"), torch.device("cpu"), NullSensors(""))
    plan = make_plan(load_config([f"arms=[{{mode: generate}},{{mode: {mode}}}]"], sources()))
    assert isinstance(ArmDecoders(model, plan, UNINTERRUPTED, 0).unprepared(0, exact=True), plain)
