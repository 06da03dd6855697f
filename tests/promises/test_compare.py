"""`compare BASE NEW` fails closed: only SAME and FASTER, known from enough processes, exit with 0."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.records.store import RECORD, find_runs

Run = Callable[..., tuple[int, str, str]]
SCRIPT = (
    *("model=scripted", "mode=cached", "model.noise=0.01", "workload.prompt_tokens=5", "workload.new_tokens=6"),
    *("stream.interval=0", "measure.warmup=0", "launch=inline", "report=false"),
)
Measure = Callable[..., None]


@pytest.fixture
def measure(run_kvbench: Run, tmp_path: Path) -> Measure:
    """Measures so many runs into a folder, each as if in a process of its own."""
    processes = iter(range(1, 1000))

    def runs(folder: str, *overrides: str, count: int = 5, processes_each: int | None = None) -> None:
        own = next(processes)
        for number in range(count):
            run_kvbench(*SCRIPT, f"results_dir={folder}", f"model.seed={own * 100 + number}", *overrides)
            pid = own * 1000 + (number if processes_each is None else number % processes_each)
            newest = max((tmp_path / folder).rglob(RECORD), key=lambda path: path.stat().st_mtime_ns)
            record = json.loads(newest.read_text())
            record["environment"]["worker"]["pid"] = pid
            newest.write_text(json.dumps(record))

    return runs


class TestEqualCode:
    def test_is_the_same_and_exits_with_0(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base")
        measure("new")
        code, out, err = run_kvbench("compare", "base", "new")
        assert (0, "") == (code, err)
        assert "**SAME**" in out
        head, _, row = out.splitlines()
        assert head.startswith("| run | prompt |")
        assert "| 5, 5 |" in row

    def test_is_told_as_data(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base")
        measure("new")
        code, out, _ = run_kvbench("compare", "base", "new", "--json")
        data: dict[str, Any] = json.loads(out)
        (row,) = data["rows"]
        assert (0, 0, 0.05) == (code, data["exit_code"], data["relevance"])
        assert ("SAME", 5, 5, 0.95) == tuple(
            row[name] for name in ("verdict", "base_processes", "new_processes", "level")
        )
        assert row["ratio_ci_low"] < 1 < row["ratio_ci_high"]
        assert row["base_decode_tokens_per_s"] == pytest.approx(1000, rel=0.01)


class TestASlowdown:
    def test_of_10_percent_exits_with_1(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base")
        measure("new", "model.cached_step_s=0.0011")
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 1 == code
        assert "**SLOWER**" in out
        assert "0.9" in out

    def test_of_5_percent_is_ambiguous_at_5_and_found_at_2(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base")
        measure("new", "model.cached_step_s=0.00105")
        assert [5, 1] == [run_kvbench("compare", "base", "new", *options)[0] for options in ((), ("--relevance=0.02",))]

    def test_the_other_way_round_is_faster_and_exits_with_0(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base", "model.cached_step_s=0.0011")
        measure("new")
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 0 == code
        assert "**FASTER**" in out

    def test_in_one_arm_of_two_is_named(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base", "mode=both")
        measure("new", "mode=both", "model.nocache_step_s=0.012")
        code, out, _ = run_kvbench("compare", "base", "new")
        nocache, cached = out.splitlines()[2:]
        assert 1 == code
        assert ("| nocache |" in nocache, "**SLOWER**" in nocache) == (True, True)
        assert ("cached (dynamic)" in cached, "**SAME**" in cached) == (True, True)


class TestTooFewProcesses:
    @pytest.mark.parametrize("side", ["base", "new"])
    def test_exit_with_5_whatever_the_figures(self, run_kvbench: Run, measure: Measure, side: str) -> None:
        measure("base", count=4 if side == "base" else 5)
        measure("new", "model.cached_step_s=0.1", count=4 if side == "new" else 5)
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 5 == code
        assert "a verdict needs 5 a side" in out

    def test_are_not_made_more_by_many_runs_of_one(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base", count=6, processes_each=2)
        measure("new")
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 5 == code
        assert "2 and 5 processes" in out


class TestWithoutACounterpart:
    @pytest.mark.parametrize(
        ("base", "new", "reason"),
        [
            ("workload.new_tokens=7", "workload.new_tokens=6", "no VALID run"),
            ("mode=both", "mode=cached", "compare_key"),
        ],
    )
    def test_exits_with_4(self, run_kvbench: Run, measure: Measure, base: str, new: str, reason: str) -> None:
        measure("base", base)
        measure("new", new)
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 4 == code
        assert 2 == out.count("**INVALID**")
        assert reason in out.replace("\\", "")

    def test_a_run_that_is_missing_in_new_is_not_passed_over(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base")
        measure("base", "workload.batch_size=2")
        measure("new")
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 4 == code
        assert "NEW has no run with this compare" in out.replace("\\", "")

    def test_a_new_run_that_is_invalid_is_not_outvoted(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base", "mode=both")
        measure("new", "mode=both")
        measure("new", "mode=both", "measure.blocks=2", count=1)
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 4 == code
        assert "1 of 6 runs in NEW: invalid" in out


class TestPaths:
    def test_that_are_missing_exit_with_2(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base")
        code, _, err = run_kvbench("compare", "base", "nowhere")
        assert 2 == code
        assert "nowhere: no such file or folder" in err

    def test_with_a_corrupt_record_exit_with_2(self, run_kvbench: Run, measure: Measure, tmp_path: Path) -> None:
        measure("base")
        measure("new")
        broken = find_runs([tmp_path / "new"]).runs[0].folder / RECORD
        broken.write_text(broken.read_text()[:-30])
        code, _, err = run_kvbench("compare", "base", "new")
        assert 2 == code
        assert "skipped" in err

    @pytest.mark.parametrize("relevance", ["0", "-0.1", "1", "5", "nan"])
    def test_with_a_senseless_relevance_exit_with_2(self, run_kvbench: Run, relevance: str) -> None:
        code, _, err = run_kvbench("compare", "base", "new", f"--relevance={relevance}")
        assert 2 == code
        assert "must be between 0 and 1" in err
