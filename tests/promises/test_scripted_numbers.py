"""The instrument recovers the truth: exact expected numbers through the whole program, from command line to record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import the_record

from kvbench.records.store import find_runs

Run = Callable[..., tuple[int, str, str]]


SCRIPT = (
    "model=scripted",
    "model.prefill_s=0.5",
    "model.cached_step_s=0.002",
    "model.nocache_step_s=0.01",
    "report=false",
)


class TestAScriptWithoutNoise:
    def test_gives_back_exactly_what_it_says(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, _ = run_kvbench(*SCRIPT, "workload.new_tokens=11", "workload.prompt_tokens=100", "launch=inline")
        run = the_record(tmp_path / "results")
        nocache, cached = run["arms"]
        assert code == 0
        assert (0.5, 0.5) == pytest.approx((nocache["ttft_s"]["value"], cached["ttft_s"]["value"]))
        assert (0.01, 0.002) == pytest.approx((nocache["itl_s"]["value"], cached["itl_s"]["value"]))
        assert (100, 500) == pytest.approx(
            (nocache["decode_tokens_per_s"]["value"], cached["decode_tokens_per_s"]["value"])
        )
        # 11 tokens in 0.5 s of prefill and 10 steps
        assert (11 / 0.6, 11 / 0.52) == pytest.approx(
            (nocache["end_to_end_tokens_per_s"]["value"], cached["end_to_end_tokens_per_s"]["value"])
        )
        assert run["comparison"]["speedup"]["value"] == pytest.approx(5.0)
        assert run["comparison"]["end_to_end_speedup"]["value"] == pytest.approx(0.6 / 0.52)
        assert run["comparison"]["verdict"] == "FASTER"

    def test_counts_every_piece_of_a_chunked_prefill_and_times_them_as_one(
        self, run_kvbench: Run, tmp_path: Path
    ) -> None:
        code, _, _ = run_kvbench(
            *SCRIPT,
            "workload.new_tokens=11",
            "workload.prompt_tokens=100",
            "workload.prefill_chunk=30",
            "measure.blocks=5",
            "launch=inline",
        )
        nocache, cached = the_record(tmp_path / "results")["arms"]
        assert code == 0
        assert (0.5, 0.002) == pytest.approx((cached["ttft_s"]["value"], cached["itl_s"]["value"]))
        # 4 pieces and 10 steps against 11 passes, in the untimed pass and in two lanes of five blocks
        assert (11 * 11, 14 * 11) == (nocache["proof"]["steps_checked"], cached["proof"]["steps_checked"])
        assert (0, 0) == (nocache["proof"]["violations"], cached["proof"]["violations"])
        assert [100, 101, 102] == [each["context_length"] for each in cached["memory_by_context"]][:3]

    def test_counts_tokens_of_every_sequence_of_a_batch(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(
            *SCRIPT, "workload.prompt_tokens=10", "workload.batch_size=4", "workload.new_tokens=6", "launch=inline"
        )
        cached = the_record(tmp_path / "results")["arms"][1]
        assert cached["decode_tokens_per_s"]["value"] == pytest.approx(4 * 5 / (5 * 0.002))
        assert [6, 6, 6, 6] == [len(ids) for ids in cached["tokens"]]
        # one layer, one head, 2 bytes for a key and 2 for a value: 10 prompt tokens and 5 submitted ones, 4 sequences
        assert 4 * 15 * 4 == cached["memory"]["kv_cache_bytes"] == cached["memory"]["kv_cache_predicted_bytes"]

    def test_growth_with_context_lands_in_the_step_table(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(
            *SCRIPT,
            "model.per_token_s=0.001",
            "mode=cached",
            "workload.prompt_tokens=10",
            "workload.new_tokens=4",
            "launch=inline",
        )
        from kvbench.records.store import read_steps

        (run,) = find_runs([tmp_path / "results"]).runs
        table = read_steps(run.folder)
        assert table is not None
        rows = [row for row in table.to_pylist() if row["block"] == 0]
        assert [(1, 11), (2, 12), (3, 13)] == [(row["step"], row["context_length"]) for row in rows]
        assert [0.013, 0.014, 0.015] == pytest.approx([row["latency_s"] for row in rows])

    def test_zero_variance_is_valid_and_its_interval_is_a_point(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, _ = run_kvbench(*SCRIPT, "launch=inline")
        speedup = the_record(tmp_path / "results")["comparison"]["speedup"]
        assert code == 0
        assert speedup["ci_low"] == pytest.approx(speedup["ci_high"])

    def test_stops_early_when_a_stop_token_says_so(self, run_kvbench: Run, tmp_path: Path) -> None:
        stop = ord("a") + 13  # what the script writes at position 13
        run_kvbench(
            *SCRIPT, "workload.prompt_tokens=10", "workload.new_tokens=9", f"workload.stop=[{stop}]", "launch=inline"
        )
        cached = the_record(tmp_path / "results")["arms"][1]
        assert (["stop"], [4]) == (cached["finish_reason"], [len(ids) for ids in cached["tokens"]])
        assert cached["decode_tokens_per_s"]["value"] == pytest.approx(500)


class TestASpeedUp:
    def test_under_drift_is_unbiased_because_blocks_are_paired(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPT, "model.drift=0.05", "launch=inline")
        assert the_record(tmp_path / "results")["comparison"]["speedup"]["value"] == pytest.approx(5.0)

    def test_of_two_equal_things_is_not_called_one(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPT, "arms=[{mode: cached},{mode: cached}]", "model.noise=0.01", "launch=inline")
        comparison = the_record(tmp_path / "results")["comparison"]
        assert comparison["verdict"] in ("SAME", "AMBIGUOUS")


class TestTooFewBlocks:
    @pytest.mark.parametrize(("blocks", "code"), [(4, 3), (5, 0)])
    def test_make_a_comparison_invalid(self, run_kvbench: Run, tmp_path: Path, blocks: int, code: int) -> None:
        assert code == run_kvbench(*SCRIPT, f"measure.blocks={blocks}", "launch=inline")[0]
        run = the_record(tmp_path / "results")
        assert ("ok" if code == 0 else "invalid") == run["status"]
        assert (run["comparison"]["verdict"] == "INVALID") == (code == 3)

    def test_leave_the_interval_of_a_single_arm_null_with_the_reason(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, _ = run_kvbench(*SCRIPT, "mode=cached", "measure.blocks=5", "launch=inline")
        run = the_record(tmp_path / "results")
        assert code == 0
        assert run["arms"][0]["itl_s"]["ci_low"] is None
        assert "at least 6 blocks" in run["null_reasons"]["/arms/0/itl_s/ci_low"]


class TestTheFirstVisit:
    def test_is_kept_apart(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPT, "launch=inline", "workload.prompt_tokens=5")
        cold = the_record(tmp_path / "results")["arms"][1]["cold"]
        assert (0.5, 0.002) == pytest.approx((cold["ttft_s"], cold["itl_s"]))


def test_the_same_script_in_a_worker_process_gives_the_same_record(run_kvbench: Run, tmp_path: Path) -> None:
    figures = []
    for launch in ("inline", "worker"):
        assert 0 == run_kvbench(*SCRIPT, "model.noise=0.1", f"launch={launch}", f"results_dir={launch}")[0]
        run = the_record(tmp_path / launch)
        figures.append([run["arms"], run["comparison"], run["checks"], run["workload"], run["keys"]["compare_key"]])
    assert figures[0] == figures[1]


class TestDrift:
    def test_is_told_and_leaves_the_speedup_alone(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPT, "model.drift=0.02", "workload.prompt_tokens=100", "launch=inline")
        run = the_record(tmp_path / "results")
        drifting = [warning["detail"] for warning in run["warnings"] if warning["code"] == "drift"]
        assert [True, True] == [
            detail.startswith(mode) for detail, mode in zip(drifting, ("nocache", "cached"), strict=True)
        ]
        # first blocks 0 and 1, last blocks 6 and 7: factors 1.01 and 1.13
        assert all("became 11.9% slower" in detail for detail in drifting)
        assert run["comparison"]["speedup"]["value"] == pytest.approx(5.0)

    def test_of_nothing_is_not_told(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPT, "workload.prompt_tokens=100", "launch=inline")
        assert "drift" not in [warning["code"] for warning in the_record(tmp_path / "results")["warnings"]]
