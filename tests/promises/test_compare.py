"""`compare BASE NEW` fails closed: only SAME and FASTER, known from enough processes, exit with 0."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from kvbench.__main__ import main
from kvbench.records.store import RECORD, find_runs

Run = Callable[..., tuple[int, str, str]]
SCRIPT = (
    *("model=scripted", "mode=cached", "model.noise=0.01", "workload.prompt_tokens=5", "workload.new_tokens=6"),
    *("stream.interval=0", "measure.warmup=0", "launch=inline", "report=false"),
)
Measure = Callable[..., None]


@pytest.fixture(scope="module")
def measured_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a run, which all tests that ask for the same one copy."""

    @cache
    def run(*overrides: str) -> Path:
        results = tmp_path_factory.mktemp("runs")
        with redirect_stdout(StringIO()):
            main([*SCRIPT, f"results_dir={results}", *overrides])
        (found,) = find_runs([results]).runs
        return found.folder

    return run


@pytest.fixture
def measure(run_kvbench: Run, tmp_path: Path, measured_once: Callable[..., Path]) -> Measure:
    """Measures so many runs into a folder, each as if in a process of its own."""
    processes = iter(range(1, 1000))

    def runs(folder: str, *overrides: str, count: int = 5, processes_each: int | None = None) -> None:
        own = next(processes)
        for number in range(count):
            run = measured_once(f"model.seed={own * 100 + number}", *overrides)
            copied = shutil.copytree(run, tmp_path / folder / run.parent.name / run.name)
            record = json.loads((copied / RECORD).read_text())
            pid = own * 1000 + (number if processes_each is None else number % processes_each)
            record["environment"]["worker"]["pid"] = pid
            (copied / RECORD).write_text(json.dumps(record))

    return runs


class TestEqualCode:
    def test_is_the_same_and_exits_with_0(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base")
        measure("new")
        code, out, err = run_kvbench("compare", "base", "new")
        assert (0, "") == (code, err)
        assert "**SAME**" in out
        head, _, row, empty, summary = out.splitlines()
        assert head.startswith("| run | prompt |")
        assert "| 5, 5 |" in row
        assert "" == empty
        assert summary.startswith("SAME over 1 row(s) (1 SAME).")
        assert summary.endswith("0.952 to 1.050 counts as no change. Exit code 0.")

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
    def test_of_10_percent_exits_with_1_and_heads_the_page(
        self, run_kvbench: Run, measure: Measure, tmp_path: Path
    ) -> None:
        measure("base")
        measure("new", "model.cached_step_s=0.0011")
        code, out, _ = run_kvbench("compare", "base", "new", "--html", "page.html")
        assert 1 == code
        assert "**SLOWER**" in out
        assert "0.9" in out
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert "<h1>new against base</h1>" in page
        assert "new is slower than base: cached" in page

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
        nocache, cached = out.splitlines()[2:4]
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

    def test_tells_what_differs_from_the_nearest_run(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base", "workload.new_tokens=7")
        measure("new", "workload.new_tokens=6")
        _, out, _ = run_kvbench("compare", "base", "new", "--json")
        old, new = (row["reason"] for row in json.loads(out)["rows"])
        assert "NEW has no run with this compare_key; the nearest differs in workload.new_tokens (7, there 6)" == old
        assert (
            "BASE has no VALID run with this compare_key; the nearest differs in workload.new_tokens (6, there 7)"
            == new
        )

    def test_because_the_baseline_was_never_valid_exits_with_4(self, run_kvbench: Run, measure: Measure) -> None:
        measure("base", "mode=both", "measure.blocks=2")
        measure("new", "mode=both")
        code, out, _ = run_kvbench("compare", "base", "new", "--json")
        (row,) = json.loads(out)["rows"]
        assert 4 == code
        assert "BASE has no VALID run with this compare_key, 5 that ended invalid" == row["reason"]


class TestRunsThatShouldNotBeCompared:
    def test_the_same_folder_on_both_sides_exits_with_4(self, run_kvbench: Run, measure: Measure) -> None:
        # It was SAME, with a ratio of 1 by construction.
        measure("base")
        code, out, _ = run_kvbench("compare", "base", "base", "--json")
        (row,) = json.loads(out)["rows"]
        assert 4 == code
        assert "5 processes are in BASE and in NEW: a run cannot be its own baseline" == row["reason"]

    def test_a_copy_of_one_run_among_the_new_ones_exits_with_4(
        self, run_kvbench: Run, measure: Measure, tmp_path: Path
    ) -> None:
        measure("base")
        measure("new")
        run = find_runs([tmp_path / "base"]).runs[0].folder
        shutil.copytree(run, tmp_path / "new" / "copied")
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 4 == code
        assert "1 processes are in BASE and in NEW" in out

    @pytest.mark.parametrize("change", ["turned", "lost", "zero", "unknown"])
    def test_one_record_with_other_arms_makes_its_kind_invalid(
        self, run_kvbench: Run, measure: Measure, tmp_path: Path, change: str
    ) -> None:
        # A run without a decode speed was left out of its sample without a word.
        measure("base", "mode=both")
        measure("new", "mode=both", count=6)
        path = find_runs([tmp_path / "new"]).runs[2].folder / RECORD
        record = json.loads(path.read_text())
        if change in ("zero", "unknown"):
            record["arms"][1]["decode_tokens_per_s"]["value"] = 0.0 if change == "zero" else None
        else:
            record["arms"] = record["arms"][::-1] if change == "turned" else record["arms"][:1]
        if change == "lost":
            record["comparisons"], record["comparison"] = [], None
        path.write_text(json.dumps(record))
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 4 == code
        assert ("have different arms" if change in ("turned", "lost") else "1 of 11 runs have an arm without") in out

    def test_runs_without_arms_exit_with_4(self, run_kvbench: Run, measure: Measure, tmp_path: Path) -> None:
        for side in ("base", "new"):
            measure(side)
            for run in find_runs([tmp_path / side]).runs:
                record = json.loads((run.folder / RECORD).read_text())
                (run.folder / RECORD).write_text(json.dumps({**record, "arms": []}))
        code, out, _ = run_kvbench("compare", "base", "new")
        assert 4 == code
        assert "the runs have no arms" in out

    def test_a_new_run_that_was_killed_exits_with_4(self, run_kvbench: Run, measure: Measure, tmp_path: Path) -> None:
        # It was named and otherwise passed over: its counterpart is unknown, and the change may have killed it.
        measure("base")
        measure("new", count=6)
        (find_runs([tmp_path / "new"]).runs[0].folder / RECORD).unlink()
        code, out, err = run_kvbench("compare", "base", "new")
        assert 4 == code
        assert "unfinished" in err
        assert "Exit code 4." in out

    def test_an_old_run_that_was_killed_is_not_missed(self, run_kvbench: Run, measure: Measure, tmp_path: Path) -> None:
        measure("base", count=6)
        measure("new")
        (find_runs([tmp_path / "base"]).runs[0].folder / RECORD).unlink()
        assert 0 == run_kvbench("compare", "base", "new")[0]


class TestPaths:
    def test_that_hold_nothing_exit_with_2(self, run_kvbench: Run, measure: Measure, tmp_path: Path) -> None:
        measure("base")
        (tmp_path / "empty").mkdir()
        for sides in (("base", "empty"), ("empty", "base")):
            code, _, err = run_kvbench("compare", *sides)
            assert 2 == code
            assert "empty: no runs yet; measure one with `python -m kvbench`" in err

    @pytest.mark.parametrize(
        "change", [{"schema_version": 2}, {"arms": float("nan")}], ids=["another schema", "not a number"]
    )
    def test_with_a_record_of_another_kind_exit_with_2(
        self, run_kvbench: Run, measure: Measure, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        measure("base", count=6)
        measure("new")
        path = find_runs([tmp_path / "base"]).runs[0].folder / RECORD
        record = json.loads(path.read_text())
        if "arms" in change:
            record["arms"][0]["decode_tokens_per_s"]["value"] = change["arms"]
        else:
            record |= change
        path.write_text(json.dumps(record))
        code, _, err = run_kvbench("compare", "base", "new")
        assert 2 == code
        assert "skipped" in err

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
