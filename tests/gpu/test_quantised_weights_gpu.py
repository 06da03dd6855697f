"""Weights in fewer bits on a GPU, where one route has its only kernels: the whole program, every arm agreeing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.records.store import find_runs

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]  # the packages' own

Run = Callable[..., tuple[int, str, str]]
SHAPE = (
    "model=smollm2", "model.weights=random", "model.dtype=bfloat16", "model.architecture.num_hidden_layers=2",
    "model.architecture.vocab_size=512", "model.architecture.hidden_size=1024",
    "model.architecture.intermediate_size=2048", "model.architecture.num_attention_heads=16",
    "model.architecture.num_key_value_heads=4", "model.architecture.bos_token_id=256",
    "model.architecture.eos_token_id=257", "model.architecture.pad_token_id=258",
)  # fmt: skip
QUICK = ("launch=inline", "device=cuda", "measure.blocks=5", "measure.energy_s=0", "stream.interval=0", "report=false")
SIZE = ("workload.prompt_tokens=40", "workload.new_tokens=8")
ARMS = "arms=[{mode: nocache},{mode: cached},{mode: cached, cache: static, engine: compiled}]"


@pytest.fixture(autouse=True)
def _cuda() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")


@pytest.mark.parametrize(("route", "bits"), [("int8_weight_only", 8), ("int4_weight_only", 4)])
def test_every_arm_runs_and_agrees(run_kvbench: Run, tmp_path: Path, route: str, bits: int) -> None:
    pytest.importorskip("torchao")
    code, said, error = run_kvbench(*SHAPE, *QUICK, *SIZE, f"model.quantization={route}", ARMS)
    assert code == 0, said + error
    (run,) = find_runs([tmp_path / "results"]).runs
    record: dict[str, Any] = json.loads(run.record.model_dump_json())
    verdicts = [each["agreement"]["verdict"] for each in record["comparisons"]]
    assert 2 == sum(verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING") for verdict in verdicts), verdicts
    linear = 2 * (2 * 1024 * 1024 + 2 * 1024 * 256 + 3 * 1024 * 2048)
    others = (512 * 1024 + (2 * 2 + 1) * 1024) * 2
    assert linear * bits / 8 < record["model"]["weight_bytes"] - others < 1.35 * linear * bits / 8
