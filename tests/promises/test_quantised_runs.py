"""Quantised weights through the whole program: both modes, a fair verdict, honest bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.records.store import find_runs

Run = Callable[..., tuple[int, str, str]]
RANDOM = (
    "model=smollm2", "model.weights=random", "model.architecture.num_hidden_layers=2",
    "model.architecture.vocab_size=320", "model.architecture.hidden_size=192",
    "model.architecture.num_attention_heads=6",
    "model.architecture.num_key_value_heads=2", "model.architecture.bos_token_id=256",
    "model.architecture.eos_token_id=257", "model.architecture.pad_token_id=258",
)  # fmt: skip
QUICK = ("launch=inline", "threads=1", "measure.blocks=5", "measure.warmup=0", "workload.new_tokens=6", "report=false")


@pytest.mark.filterwarnings("ignore")  # the packages' own
@pytest.mark.parametrize(
    ("route", "package"), [("int8", "bitsandbytes"), ("nf4", "bitsandbytes"), ("int8_weight_only", "torchao")]
)
def test_both_modes_run_and_agree(run_kvbench: Run, tmp_path: Path, route: str, package: str) -> None:
    pytest.importorskip(package)
    code, said, error = run_kvbench(*RANDOM, *QUICK, f"model.quantization={route}", "workload.prompt_tokens=12")
    assert code == 0, said + error
    (run,) = find_runs([tmp_path / "results"]).runs
    record: dict[str, Any] = json.loads(run.record.model_dump_json())
    assert (route, "bfloat16") == (record["model"]["quantization"], record["model"]["dtype"])
    for arm in record["arms"]:
        assert arm["memory"]["kv_cache_bytes"] == arm["memory"]["kv_cache_predicted_bytes"]


def test_extra_tensors_are_a_warning(run_kvbench: Run, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    from kvbench.model_folder import EMBEDDED

    place = Path(shutil.copytree(EMBEDDED, tmp_path / "extra"))
    tensors = load_file(place / "model.safetensors")
    save_file({**tensors, "model.vision.weight": torch.ones(2)}, place / "model.safetensors", {"format": "pt"})
    code, said, _ = run_kvbench("model=path", f"model.path={place}", *QUICK, "workload.prompt_tokens=12")
    assert code == 0
    assert "unused_tensors" in said
    assert "model.vision.weight" in said
