"""A model that waits on the host in part has no energy and no account of memory: half of a figure is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.arm import Arm
from kvbench.config.schema import Config, MeasureConfig, ModelConfig, WorkloadConfig
from kvbench.measuring.sensors import NullSensors
from kvbench.models.loading import adopt
from kvbench.models.tokenizers import byte_tokenizer
from kvbench.plan import Prompts, make_plan
from kvbench.running.model_on_device import SPREAD
from kvbench.running.torch_backend import TorchBackend


@pytest.mark.parametrize(
    ("placed", "reason"),
    [
        ({}, "none"),
        ({"": 0}, "none"),
        ({"model": 0, "lm_head": 0}, "none"),
        ({"model": 0, "lm_head": 1}, "none"),
        ({"model": 0, "lm_head": "cpu"}, SPREAD),
        ({"model": "cuda:0", "lm_head": "disk"}, SPREAD),
    ],
)
def test_only_a_model_on_gpus_alone_has_their_sensors(
    tiny_model: Callable[..., Any], placed: dict[str, int], reason: str
) -> None:
    model = tiny_model("llama", vocab_size=300)
    model.hf_device_map = placed
    config = Config(
        model=ModelConfig(name="m", weights="path", path="(loaded)"),
        arms=[Arm(mode="cached")],
        workload=WorkloadConfig(new_tokens=2),
        measure=MeasureConfig(blocks=1),
    )
    backend = TorchBackend(adopt(model, byte_tokenizer(300), "m"), torch.device("cpu"), NullSensors("none"))
    session = backend.session(make_plan(config, Prompts(("abc",))))
    assert reason == session.sensors.reason
    memory = session.untimed.pass_of(session, 0).memory
    assert (SPREAD == memory.why_null("reconciliation")) == (reason == SPREAD)
