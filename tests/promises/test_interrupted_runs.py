"""Interruptions through the whole program: exact numbers from scripts, and equal output from real models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import the_record

from kvbench.records.store import find_runs, read_steps

Run = Callable[..., tuple[int, str, str]]
SCRIPT = (
    "model=scripted",
    "model.prefill_s=0.5",
    "model.cached_step_s=0.002",
    "model.nocache_step_s=0.01",
    "workload.prompt_tokens=100",
    "workload.new_tokens=11",
    "launch=inline",
)
REAL = ("launch=inline", "threads=1", "measure.blocks=5", "measure.warmup=0", "workload.new_tokens=8", "report=false")


class TestACacheThatIsLost:
    def test_costs_exactly_what_the_script_says(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, said, _ = run_kvbench(*SCRIPT, "mode=interrupted", "interrupt.steps=[4,8]", "report=false")
        run = the_record(tmp_path / "results")
        nocache, cached, interrupted = run["arms"]
        assert code == 0
        # two rebuilds of 10 ms and eight steps of 2 ms
        assert interrupted["itl_s"]["value"] == pytest.approx((2 * 0.01 + 8 * 0.002) / 10)
        assert [4, 8] == [turn["step"] for turn in interrupted["turns"]]
        assert [104, 108] == [turn["submitted_tokens"] for turn in interrupted["turns"]]
        assert [0.01, 0.01] == pytest.approx([turn["ttft_s"]["value"] for turn in interrupted["turns"]])
        assert [1, 1] == [turn["submitted_tokens"] for turn in cached["turns"]]
        # a scripted rebuild costs what a step without a cache costs, so it is paid back by its own token
        assert [1, 1] == [turn["paid_back_after_tokens"] for turn in interrupted["turns"]]
        assert [None, None] == [turn["paid_back_after_tokens"] for turn in nocache["turns"]]
        assert "/arms/0/turns/0/paid_back_after_tokens" in run["null_reasons"]
        assert "at new token" in said

    def test_writes_what_the_uninterrupted_run_writes(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, _ = run_kvbench(*REAL, "mode=interrupted", "workload.prompt_tokens=20", "measure.step_lane=false")
        run = the_record(tmp_path / "results")
        assert code == 0
        assert run["arms"][1]["tokens"] == run["arms"][2]["tokens"]
        (check,) = [check for check in run["checks"] if check["name"] == "interruption"]
        assert check["passed"]

    def test_without_a_per_token_lane_says_why_its_cost_is_not_known(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPT, "mode=interrupted", "measure.step_lane=false", "report=false")
        run = the_record(tmp_path / "results")
        assert run["arms"][2]["turns"][0]["ttft_s"]["value"] is None
        assert "measure.step_lane" in run["null_reasons"]["/arms/2/turns/0/ttft_s/value"]


class TestAConversation:
    def test_has_the_time_to_the_first_token_of_each_turn_for_both(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(
            *SCRIPT, "model.per_token_s=0.001", "mode=resumed", "interrupt.message=Why?", "interrupt.steps=[5]",
            "report=false",
        )  # fmt: skip
        interrupted, resumed = the_record(tmp_path / "results")["arms"]
        # 100 prompt tokens, 5 new ones, 4 of the message: one byte is one token here
        assert (109, 5) == (interrupted["turns"][0]["submitted_tokens"], resumed["turns"][0]["submitted_tokens"])
        assert interrupted["turns"][0]["ttft_s"]["value"] == pytest.approx(0.01 + 0.109)
        assert resumed["turns"][0]["ttft_s"]["value"] == pytest.approx(0.002 + 0.109)

    def test_counts_the_inserted_tokens_into_the_context_of_every_step(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPT, "mode=resumed", "interrupt.message=Why?", "interrupt.steps=[5]", "report=false")
        (run,) = find_runs([tmp_path / "results"]).runs
        table = read_steps(run.folder)
        assert table is not None
        contexts = [row["context_length"] for row in table.to_pylist() if row["block"] == 0 and row["arm"] == 1]
        assert [101, 102, 103, 104, 109, 110, 111, 112, 113, 114] == contexts
        # 4 bytes a token of cache; the newest token was never submitted
        assert 114 * 4 == run.record.arms[1].memory.kv_cache_bytes

    def test_goes_on_with_the_same_words_on_a_kept_and_on_a_rebuilt_cache(
        self, run_kvbench: Run, tmp_path: Path
    ) -> None:
        code, said, _ = run_kvbench(*REAL, "mode=resumed", "workload.batch_size=3", "measure.step_lane=false")
        run = the_record(tmp_path / "results")
        assert (0, "VALID") == (code, "VALID" if "VALID" in said else said)
        assert run["arms"][0]["tokens"] == run["arms"][1]["tokens"]
        for arm in run["arms"]:
            assert arm["memory"]["kv_cache_bytes"] == arm["memory"]["kv_cache_predicted_bytes"]

    def test_is_shown_in_the_report(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPT, "mode=resumed", "interrupt.message='<Why?>'")
        (page,) = (tmp_path / "results").rglob("report.html")
        assert ">Interruptions</h" in page.read_text()

    def test_that_outgrows_the_model_is_refused(self, run_kvbench: Run) -> None:
        code, _, error = run_kvbench(
            *REAL,
            "mode=resumed",
            "workload.prompt_tokens=4000",
            "interrupt.message=" + "a" * 400,
            "interrupt.steps=[2,4]",
        )
        assert (2, True) == (code, "interrupt.message: inserted 2 times" in error), error


def test_each_habit_is_an_arm_that_is_compared_with_the_loop_without_it(run_kvbench: Run, tmp_path: Path) -> None:
    code, said, _ = run_kvbench(
        *REAL, "experiment=habits", "workload.prompt_tokens=12", "measure.step_lane=false", "workload.new_tokens=5"
    )
    run = the_record(tmp_path / "results")
    assert code == 0
    assert ["none", "autograd", "all_logits", "dropped_cache", "python_list", "host_read", "whole_text", "all"] == [
        arm["habit"] for arm in run["arms"]
    ]
    assert len({str(arm["tokens"]) for arm in run["arms"]}) == 1
    assert "against nocache" in said
    assert "habit autograd" in said


def test_a_stop_token_may_be_named_and_must_exist(run_kvbench: Run) -> None:
    code, _, error = run_kvbench(*REAL, "workload.stop=['<nope>']")
    assert (2, True) == (code, "this tokenizer has no such token; its end token is" in error), error
