"""A chunked prefill through the whole program: its passes, memory, shapes and verdicts are those of what was done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import the_record

Run = Callable[..., tuple[int, str, str]]
RANDOM = (
    "model=smollm2", "model.weights=random", "model.architecture.num_hidden_layers=2",
    "model.architecture.vocab_size=320", "model.architecture.hidden_size=48", "model.dtype=float32",
    "model.architecture.num_attention_heads=6",
    "model.architecture.num_key_value_heads=2", "model.architecture.bos_token_id=256",
    "model.architecture.eos_token_id=257", "model.architecture.pad_token_id=258",
)  # fmt: skip
QUICK = (
    "launch=inline", "threads=1", "device=cpu", "measure.blocks=5", "measure.warmup=0", "measure.energy_s=0",
    "workload.prompt_tokens=20", "workload.new_tokens=6", "report=false",
)  # fmt: skip


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_every_arm_with_a_cache_submits_pieces_and_agrees(run_kvbench: Run, tmp_path: Path, cache: str) -> None:
    arms = f"arms=[{{mode: nocache}},{{mode: cached, cache: {cache}, attention: grouped}},{{mode: generate}}]"
    code, said, error = run_kvbench(*RANDOM, *QUICK, arms, "workload.prefill_chunk=8")
    assert code == 0, said + error
    run = the_record(tmp_path / "results")
    # 3 pieces and 5 steps against 6 passes, once untimed and in two lanes of 5 blocks; generate hides the timed
    assert [6 * 11, 8 * 11, 8] == [arm["proof"]["steps_checked"] for arm in run["arms"]]
    assert [0, 0, 0] == [arm["proof"]["violations"] for arm in run["arms"]]
    for arm in run["arms"]:
        assert [20, 21, 22, 23, 24, 25] == [point["context_length"] for point in arm["memory_by_context"]]
    prefill, *steps = run["shapes"].values()
    assert [1, 4] == prefill["input_ids"]["shape"]
    assert [[1, 21], [1, 1], [1, 1]] == [step["input_ids"]["shape"] for step in steps]


def test_lost_caches_and_messages_go_in_pieces_too(run_kvbench: Run, tmp_path: Path) -> None:
    arms = "arms=[{mode: nocache},{mode: interrupted},{mode: resumed}]"
    asked = ("interrupt.steps=[3]", "interrupt.message=And what comes after that?")
    code, said, error = run_kvbench(*RANDOM, *QUICK, arms, *asked, "workload.prefill_chunk=8")
    assert code == 0, said + error
    run = the_record(tmp_path / "results")
    assert [0, 0, 0] == [arm["proof"]["violations"] for arm in run["arms"]]
    rebuilt, appended = (arm["proof"]["steps_checked"] for arm in run["arms"][1:])
    assert rebuilt > appended > run["arms"][0]["proof"]["steps_checked"]
    contexts = [[point["context_length"] for point in arm["memory_by_context"]] for arm in run["arms"]]
    assert contexts[0] == contexts[1] == contexts[2]
