"""One model on several ranks: the whole program with exact figures, a rank that fails, two real ranks on the CPU."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from preloaded import Preloaded
from runs import the_record
from transformers import AutoModelForCausalLM, LlamaConfig

from kvbench.models.tokenizers import byte_tokenizer

RANKS = 2
STEP_S, NOCACHE_S, EXCHANGED_S = 0.001, 0.010, 0.0002
SCRIPT = (
    *("model=scripted", f"model.tensor_parallel={RANKS}", f"model.communication_s={EXCHANGED_S}", "report=false"),
    *("workload.prompt_tokens=8", "workload.new_tokens=8", "measure.blocks=6", "stream.interval=0"),
)  # fmt: skip


@pytest.fixture(scope="module")
def scripted(preloaded: Preloaded, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("scripted")
    assert 0 == preloaded.start(*SCRIPT, cwd=folder, outputs=folder / "outputs").wait(60)
    return the_record(folder / "results")


class TestScriptedRanks:
    def test_take_the_scripts_time_and_the_exchanges(self, scripted: dict[str, Any]) -> None:
        times = [arm["itl_s"]["value"] for arm in scripted["arms"]]
        assert pytest.approx([NOCACHE_S + EXCHANGED_S, STEP_S + EXCHANGED_S]) == times
        assert [EXCHANGED_S] * 2 == [arm["limit"]["communication_s"] for arm in scripted["arms"]]

    def test_hold_a_head_of_the_cache_each_and_together_all_of_it(self, scripted: dict[str, Any]) -> None:
        cached = scripted["arms"][1]
        held = (8 + 7) * 4  # tokens, and bytes of a head
        assert [(0, held, held), (1, held, held)] == [
            (rank["rank"], rank["kv_cache_bytes"], rank["kv_cache_predicted_bytes"]) for rank in cached["ranks"]
        ]
        assert RANKS * held == cached["memory"]["kv_cache_bytes"] == cached["memory"]["kv_cache_predicted_bytes"]

    def test_are_proved_and_counted_each(self, scripted: dict[str, Any]) -> None:
        checks = {check["name"]: check for check in scripted["checks"]}
        assert "ok" == scripted["status"]
        assert "all 2 ranks wrote the same tokens in 24 generations" == checks["ranks"]["detail"]
        assert f"{RANKS * 2 * 8} steps submitted what their mode promises" == checks["mode_proof"]["detail"]

    def test_the_diagnosis_tells_what_part_of_a_step_is_communication(self, scripted: dict[str, Any]) -> None:
        told = [each["text"] for each in scripted["comparison"]["diagnosis"] if each["code"] == "communication"]
        assert [
            "Of the 1.20 ms that a step of cached takes, 200 µs are communication between the 2 ranks (17 %); of the"
            " 10.2 ms of nocache, 200 µs."
        ] == told


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("model.fail_with=crash", "rank 1 of 2 ended without an answer (exit code 70)"),
        ("model.fail_with=error", "rank 1: scripted failure at step 3"),
    ],
)
def test_a_rank_that_fails_ends_the_run_as_a_record_that_names_it(
    how: str, said: str, preloaded: Preloaded, tmp_path: Path
) -> None:
    failing = ("model.fail_on_rank=1", "model.fail_at_step=3", how)
    run = preloaded.start(*SCRIPT, *failing, cwd=tmp_path, outputs=tmp_path / "outputs")
    assert 1 == run.wait(60)
    record = the_record(tmp_path / "results")
    assert record["status"] == ("failed" if "error" in how else "crashed")
    assert said in record["status_reason"]


def test_under_torchrun_every_rank_is_started_alike_and_the_first_one_tells(
    preloaded: Preloaded, tmp_path: Path
) -> None:
    runs = [
        preloaded.start(
            *SCRIPT,
            cwd=tmp_path,
            outputs=tmp_path / f"rank{rank}",
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(RANKS),
        )
        for rank in range(RANKS)
    ]
    assert [0, 0] == [run.wait(60) for run in runs]
    assert "ok" == the_record(tmp_path / "results")["status"]
    silent = "".join(file.read_text() for file in (tmp_path / "rank1").iterdir())
    assert "" == silent


# Two real ranks.

NEW_TOKENS, PROMPT_TOKENS, LAYERS, KV_HEADS, HEAD_DIM = 6, 16, 2, 2, 16
REAL = (
    *("model=path", "device=cpu", "threads=1", "report=false", "stream.interval=0", f"model.tensor_parallel={RANKS}"),
    *(f"workload.prompt_tokens={PROMPT_TOKENS}", f"workload.new_tokens={NEW_TOKENS}", "measure.blocks=5"),
)  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose tokens depend on those before them."""
    folder = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=KV_HEADS,
        initializer_range=1.5 / 8,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer(300).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def real(
    preloaded: Preloaded, llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], list[int]]:
    """The record of both modes on two gloo ranks, and the tokens of the prompt."""
    folder = tmp_path_factory.mktemp("real")
    run = preloaded.start(*REAL, f"model.path={llama}", cwd=folder, outputs=folder / "outputs")
    assert 0 == run.wait(300), "".join(file.read_text()[-2000:] for file in (folder / "outputs").iterdir())
    (prompts,) = folder.rglob("prompts.jsonl")
    return the_record(folder / "results"), json.loads(prompts.read_text().splitlines()[0])["token_ids"]


class TestTwoRanks:
    def test_write_what_one_process_writes(self, real: tuple[dict[str, Any], list[int]], llama: Path) -> None:
        record, prompt = real
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            model = AutoModelForCausalLM.from_pretrained(llama)
            for _ in range(NEW_TOKENS):
                ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
        assert [[ids[0, PROMPT_TOKENS:].tolist()]] * 2 == [arm["tokens"] for arm in record["arms"]]
        assert all(rank["same_tokens"] for arm in record["arms"] for rank in arm["ranks"])

    def test_hold_half_of_the_cache_and_of_what_is_cut_of_the_weights(
        self, real: tuple[dict[str, Any], list[int]], llama: Path
    ) -> None:
        record, _ = real
        nocache, cached = record["arms"]
        tokens = PROMPT_TOKENS + NEW_TOKENS - 1
        whole = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4 * tokens
        assert [whole // RANKS] * RANKS == [rank["kv_cache_bytes"] for rank in cached["ranks"]]
        assert whole == cached["memory"]["kv_cache_bytes"] == cached["memory"]["kv_cache_predicted_bytes"]
        assert [0, 0] == [rank["kv_cache_bytes"] for rank in nocache["ranks"]]
        weights = [(rank["weights_bytes"], rank["weights_predicted_bytes"]) for rank in cached["ranks"]]
        assert all(held == predicted for held, predicted in weights)
        parameters = sum(each.numel() for each in AutoModelForCausalLM.from_pretrained(llama).parameters())
        # Norms are whole on every rank, and with transformers 5.17 the embedding.
        uncut = 64 * (2 * LAYERS + 1) * 4
        assert uncut <= weights[0][0] - (parameters * 4 - uncut) // RANKS <= uncut + 300 * 64 * 4 // 2
        assert parameters == record["model"]["parameters"]

    def test_are_judged_as_arms_of_one_process_are(self, real: tuple[dict[str, Any], list[int]]) -> None:
        record, _ = real
        assert "ok" == record["status"]
        assert record["comparison"]["agreement"]["verdict"] in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
        assert all(each["passed"] for each in record["checks"])

    def test_together_compute_what_one_process_computes(self, real: tuple[dict[str, Any], list[int]]) -> None:
        found = real[0]["flops_check"]
        # transformers 5.17 makes the rotary table by a product, which every rank does for itself.
        assert pytest.approx(found["counted"], rel=1e-3) == found["predicted"] > 0

    def test_tell_what_they_exchange(self, real: tuple[dict[str, Any], list[int]]) -> None:
        record, _ = real
        for arm in record["arms"]:
            assert 0 < arm["limit"]["communication_s"]


LONG = ("workload.new_tokens=64", "measure.blocks=500", "check.agreement=none")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_real_rank_that_is_killed_or_stopped_ends_the_run_and_is_named(
    how: signal.Signals, preloaded: Preloaded, llama: Path, tmp_path: Path
) -> None:
    limit = ("measure.timeout_s=90",)
    run = preloaded.start(*REAL, *LONG, *limit, f"model.path={llama}", cwd=tmp_path, outputs=tmp_path / "outputs")
    deadline = time.monotonic() + 80
    while not list(tmp_path.rglob("blocks.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [each for each in psutil.Process(run.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    last = max(workers, key=lambda each: (each.create_time(), each.pid))  # the worker is started before the other rank
    last.send_signal(how)
    assert 1 == run.wait(120)
    record = the_record(tmp_path / "results")
    if how == signal.SIGKILL:
        assert ("crashed", True) == (record["status"], "rank 1 of 2 ended" in record["status_reason"])
    else:
        assert "timeout" == record["status"]
        last.wait(10)


@pytest.mark.slow
def test_two_ranks_under_the_real_torchrun_write_one_record(llama: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "kvbench", *REAL]
    ended = subprocess.run([*command, f"model.path={llama}"], cwd=tmp_path, capture_output=True, text=True)
    assert 0 == ended.returncode, ended.stderr[-2000:]
    record = the_record(tmp_path / "results")
    assert ("ok", 2) == (record["status"], len(record["arms"][0]["ranks"]))
