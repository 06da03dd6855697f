"""A sweep that is started again measures what is left, lists what it leaves out, and never mixes the two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.config.compose import load_config, sources
from kvbench.errors import RecordError
from kvbench.measuring import environment
from kvbench.plan import make_plan
from kvbench.records.run_record import RunRecord
from kvbench.records.store import RECORD, REPORT, StoredRun, find_runs
from kvbench.running.supervisor import InlineRunner, Supervisor

Run = Callable[..., tuple[int, str, str]]

POINT = ("model=scripted", "workload.prompt_tokens=5", "workload.new_tokens=4", "measure.warmup=0", "launch=inline")
SWEEP = ("-m", *POINT, "report=false", "model.seed=1,2")


def runs(folder: Path) -> tuple[StoredRun, ...]:
    return find_runs([folder / "results"]).runs


class TestASweepStartedAgain:
    @pytest.mark.parametrize("launch", ["inline", "worker"])
    def test_leaves_out_what_is_finished_and_lists_it(self, run_kvbench: Run, tmp_path: Path, launch: str) -> None:
        run_kvbench(*SWEEP, f"launch={launch}")
        before = runs(tmp_path)
        code, out, _ = run_kvbench(*SWEEP, f"launch={launch}", "workload.new_tokens=4")
        assert 0 == code
        assert before == runs(tmp_path)
        flat = out.replace("\n", "")
        assert [True, True] == [f"left out, measured before (ok): {_shown(run)}" in flat for run in before]
        assert "2 of 2 points were measured before and left out; resume=false measures them again" in _flat(out)
        assert 1 == len(list((tmp_path / "results").iterdir()))

    def test_measures_points_that_are_new(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SWEEP)
        code, out, _ = run_kvbench("-m", *POINT, "report=false", "model.seed=1,2,3")
        assert (0, 3) == (code, len(runs(tmp_path)))
        assert "2 of 3 points were measured before" in out

    def test_draws_one_report_over_old_and_new(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SWEEP)
        run_kvbench("-m", *POINT, "model.seed=1,2,3")
        (report,) = (tmp_path / "results").rglob(REPORT)
        page = report.read_text()
        assert [True] * 3 == [run.record.run_id in page for run in runs(tmp_path)]

    def test_measures_everything_again_when_told_so(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SWEEP)
        assert 0 == run_kvbench(*SWEEP, "resume=false")[0]
        assert 4 == len(runs(tmp_path))

    def test_does_not_take_its_own_points_for_finished_ones(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench("-m", *POINT, "report=false", "model.seed=1,1")
        assert 2 == len(runs(tmp_path))

    def test_counts_an_old_invalid_point_in_its_exit_code(self, run_kvbench: Run, tmp_path: Path) -> None:
        too_few = (*SWEEP, "measure.blocks=2")
        assert 3 == run_kvbench(*too_few)[0]
        code, out, _ = run_kvbench(*too_few)
        assert (3, 2) == (code, len(runs(tmp_path)))
        assert "left out, measured before (invalid)" in out.replace("\n", "")

    def test_measures_a_failed_point_again(self, run_kvbench: Run, tmp_path: Path) -> None:
        failing = (*SWEEP, "model.fail_at_step=5")
        assert 1 == run_kvbench(*failing)[0]
        assert 1 == run_kvbench(*failing)[0]
        assert ["failed"] * 4 == [run.record.status for run in runs(tmp_path)]

    def test_measures_a_damaged_point_again(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SWEEP)
        record = runs(tmp_path)[0].folder / RECORD
        record.write_text(record.read_text()[:-20])
        assert 0 == run_kvbench(*SWEEP)[0]
        assert 2 == len(runs(tmp_path))

    def test_ends_where_the_disk_no_longer_gives_a_finished_point(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_kvbench(*SWEEP)

        def lost(path: Path) -> RunRecord:
            raise RecordError(f"{path}: cannot read (Input/output error)") from OSError()

        monkeypatch.setattr("kvbench.point.read_record", lost)
        code, _, err = run_kvbench(*SWEEP)
        assert (2, 2) == (code, len(runs(tmp_path)))
        assert "not known whether its point is finished; resume=false" in err

    def test_asks_again_when_the_environment_could_not_be_told_once(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_kvbench(*SWEEP)
        survey, asked = InlineRunner.survey, iter([True])
        monkeypatch.setattr(
            InlineRunner, "survey", lambda runner, plan: {} if next(asked, False) else survey(runner, plan)
        )
        run_kvbench(*SWEEP)
        assert 3 == len(runs(tmp_path))  # the first point is not known to be finished, the second is

    def test_asks_another_worker_when_one_is_killed_as_it_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start, killed = Supervisor._worker, iter([True])

        def dying(supervisor: Supervisor, ranks: int) -> Any:
            process, connection = start(supervisor, ranks)
            if next(killed, False):
                process.kill()
                process.join()
            return process, connection

        monkeypatch.setattr(Supervisor, "_worker", dying)
        with Supervisor() as supervisor:
            assert "python" in supervisor.survey(make_plan(load_config([*POINT, "launch=worker"], sources())))


class TestAPoint:
    @pytest.mark.parametrize("change", ["measure.blocks=9", "workload.new_tokens=5", "mode=cached", "audit=true"])
    def test_of_another_configuration_is_another_point(self, run_kvbench: Run, tmp_path: Path, change: str) -> None:
        run_kvbench(*SWEEP)
        assert 0 == run_kvbench(*SWEEP, change)[0]
        again = change == "audit=true"  # which measures the first point once more at the end
        assert 4 + again == len(runs(tmp_path))

    @pytest.mark.parametrize("change", ["name=other", "report=auto"])
    def test_that_only_goes_elsewhere_is_the_same(self, run_kvbench: Run, tmp_path: Path, change: str) -> None:
        run_kvbench(*SWEEP)
        run_kvbench(*SWEEP, change)
        assert 2 == len(runs(tmp_path))

    def test_whose_prompts_changed_in_their_file_is_another(self, run_kvbench: Run, tmp_path: Path) -> None:
        prompts = tmp_path / "p.txt"
        sweep = ("-m", "model=scripted", "launch=inline", "report=false", "workload.prompts=p.txt", "model.seed=1,2")
        prompts.write_text("one\n")
        run_kvbench(*sweep)
        prompts.write_text("two\n")
        run_kvbench(*sweep)
        assert 4 == len(runs(tmp_path))

    def test_measured_by_other_code_is_another(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_kvbench(*SWEEP)
        monkeypatch.setattr("kvbench.analysis.keys._code", lambda: "edited")
        run_kvbench(*SWEEP)
        assert 4 == len(runs(tmp_path))

    def test_measured_in_another_environment_is_another(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_kvbench(*SWEEP)
        real = environment._constant_environment()
        monkeypatch.setattr(environment, "_constant_environment", lambda: {**real, "python": "3.99"})
        run_kvbench(*SWEEP)
        assert 4 == len(runs(tmp_path))


class TestASingleRun:
    def test_is_measured_again_unless_told_otherwise(self, run_kvbench: Run, tmp_path: Path) -> None:
        single = (*POINT, "report=false")
        run_kvbench(*single)
        run_kvbench(*single)
        assert 2 == len(runs(tmp_path))
        code, out, _ = run_kvbench(*single, "resume=true")
        assert (0, 2) == (code, len(runs(tmp_path)))
        assert "measured before, nothing was measured now" in out.replace("\n", " ")
        assert "FASTER" in out


def _flat(text: str) -> str:
    return text.replace(" \n", " ")


def _shown(run: StoredRun) -> str:
    return str(run.folder.relative_to(Path.cwd()))
