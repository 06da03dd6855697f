"""A sweep measures what it can: each point is a run folder, and one bad point harms no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvbench.records.store import REPORT, StoredRun, find_runs

Run = Callable[..., tuple[int, str, str]]

QUICK = ("model=scripted", "workload.prompt_tokens=5", "workload.new_tokens=4", "measure.warmup=0", "measure.blocks=5")
INLINE = (*QUICK, "launch=inline", "report=false")


def the_sweep(results: Path) -> Path:
    """The one folder of a sweep, with nothing beside it."""
    (folder,) = results.iterdir()
    assert folder.name.startswith("sweep-")
    return folder


def points(results: Path) -> tuple[StoredRun, ...]:
    """The runs of the sweep in the order in which they were made."""
    found = find_runs([the_sweep(results)])
    assert ((), ()) == (found.unreadable, found.unfinished)
    return found.runs


class TestEachPoint:
    def test_is_a_run_folder_below_the_folder_of_the_sweep(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, out, err = run_kvbench("-m", *INLINE, "workload.batch_size=1,2", "mode=cached,both")
        runs = points(tmp_path / "results")
        assert (0, "") == (code, err)
        assert [(1, 1), (1, 2), (2, 1), (2, 2)] == [
            (run.record.config["workload"]["batch_size"], len(run.record.arms)) for run in runs
        ]
        assert {the_sweep(tmp_path / "results") / "scripted"} == {run.folder.parent for run in runs}
        assert [f"[{number}/4]" in out for number in (1, 2, 3, 4)] == [True] * 4

    def test_lands_in_the_one_report_at_the_root(self, run_kvbench: Run, tmp_path: Path) -> None:
        options = [option for option in INLINE if not option.startswith("report")]
        code, out, _ = run_kvbench("-m", *options, "workload.batch_size=1,2")
        (report,) = (tmp_path / "results").rglob(REPORT)
        page = report.read_text()
        assert 0 == code
        assert the_sweep(tmp_path / "results") == report.parent
        assert all(run.record.run_id in page for run in points(tmp_path / "results"))
        assert str(report.relative_to(tmp_path)) in out.replace("\n", "")

    def test_may_be_the_only_one(self, run_kvbench: Run, tmp_path: Path) -> None:
        assert 0 == run_kvbench("-m", *INLINE)[0]
        assert 1 == len(points(tmp_path / "results"))

    def test_counts_a_script_that_fails_at_a_step_from_its_own_start(self, run_kvbench: Run, tmp_path: Path) -> None:
        # 3 steps a visit: one point has fewer than 60 steps, two together have more
        options = [option for option in QUICK if "blocks" not in option]
        limits = ("measure.blocks=5", "mode=cached,generate", "model.fail_at_step=60")
        assert 0 == run_kvbench("-m", *options, "launch=worker", "report=false", *limits)[0]
        assert ["ok", "ok"] == [run.record.status for run in points(tmp_path / "results")]


TYPOS = [
    ("mode=cached,nosuch", "mode=nosuch: not known; allowed: "),
    ("mode=nosuch,cached", "mode=nosuch: not known; allowed: "),
    ("workload.new_tokens=4,many", "workload.new_tokens=many: must be of type integer"),
    ("workload=bundled,nosuch", "workload=nosuch: not known; allowed: "),
    ("device=cpu,gpu", "device=gpu: not known; did you mean device=cuda? allowed: "),
]
REFUSALS = [
    ("workload.new_tokens=4,0", "workload.new_tokens=0: must be at least 2"),
    ("workload.prompts=null,some.txt", "give one of them"),
]


class TestATypo:
    @pytest.mark.parametrize(("sweep", "reason"), TYPOS)
    def test_in_one_point_stops_the_sweep_before_anything_is_measured(
        self, run_kvbench: Run, tmp_path: Path, sweep: str, reason: str
    ) -> None:
        code, out, err = run_kvbench("-m", *INLINE, sweep)
        assert (2, "") == (code, out)
        assert reason in err
        assert "1 of 2 points" in err
        assert 1 == err.count("\n")
        assert [] == list(tmp_path.iterdir())


class TestARefusedPoint:
    @pytest.mark.parametrize(("sweep", "reason"), REFUSALS)
    def test_is_a_record_and_the_others_are_measured(
        self, run_kvbench: Run, tmp_path: Path, sweep: str, reason: str
    ) -> None:
        code, out, err = run_kvbench("-m", *INLINE, sweep)
        by_status = {run.record.status: run for run in points(tmp_path / "results")}
        assert (1, "", {"ok", "refused"}) == (code, err, set(by_status))
        refused = by_status["refused"].record
        assert reason in (refused.status_reason or "")
        assert sweep.partition("=")[0] in str(refused.config)
        assert "refused: " in out

    def test_is_told_before_the_first_point_is_measured(self, run_kvbench: Run) -> None:
        _, out, _ = run_kvbench("-m", *INLINE, "workload.new_tokens=4,0,1", "mode=cached,nocache")
        text = " ".join(out.partition("[1/6]")[0].split())
        assert "4 of 6 points will be refused" in text
        assert "2 × workload.new_tokens=0: must be at least 2" in text
        assert "workload.new_tokens=0 mode=cached; workload.new_tokens=0 mode=nocache" in text

    @pytest.mark.parametrize("order", ["0,4", "4,0"])
    def test_may_come_first_or_last(self, run_kvbench: Run, tmp_path: Path, order: str) -> None:
        assert 1 == run_kvbench("-m", *INLINE, f"workload.new_tokens={order}")[0]
        assert ["ok", "refused"] == sorted(run.record.status for run in points(tmp_path / "results"))

    def test_whose_prompts_are_missing_is_a_record_too(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "good.txt").write_text("hello\n")
        options = [option for option in INLINE if "prompt_tokens" not in option]
        assert 1 == run_kvbench("-m", *options, "workload.prompts=missing.txt,good.txt")[0]
        first, second = points(tmp_path / "results")
        assert ("refused", "ok") == (first.record.status, second.record.status)
        assert "workload.prompts=missing.txt: no such file" == first.record.status_reason

    def test_found_by_the_worker_is_a_record_too(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code, _, _ = run_kvbench("-m", *INLINE, "model=scripted,./nowhere")
        assert 1 == code
        assert [("ok", "measured, and every check passed"), ("refused", "model.path=./nowhere: no such folder")] == [
            (run.record.status, run.record.status_reason) for run in points(tmp_path / "results")
        ]

    def test_is_in_the_report(self, run_kvbench: Run, tmp_path: Path) -> None:
        options = [option for option in INLINE if not option.startswith("report")]
        assert 1 == run_kvbench("-m", *options, "workload.new_tokens=4,0")[0]
        assert "must be at least 2" in (the_sweep(tmp_path / "results") / REPORT).read_text()


class TestAFailedPoint:
    def test_is_a_record_and_the_others_are_measured(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, err = run_kvbench("-m", *INLINE, "model.fail_with=oom,error", "model.fail_at_step=null,20")
        assert (1, "") == (code, err)
        assert ["ok", "oom", "ok", "failed"] == [run.record.status for run in points(tmp_path / "results")]

    def test_that_kills_its_worker_does_not_hurt_the_next(self, run_kvbench: Run, tmp_path: Path) -> None:
        crash = ("model.fail_with=crash", "model.fail_at_step=null,20,null")
        code, _, err = run_kvbench("-m", *QUICK, "report=false", *crash)
        runs = points(tmp_path / "results")
        assert (1, "") == (code, err)
        assert ["ok", "crashed", "ok"] == [run.record.status for run in runs]
        assert "exit code 70" in (runs[1].record.status_reason or "")
        before, _, after = (run.record.environment.get("worker", {}).get("pid") for run in runs)
        assert before != after
        assert runs[0].record.comparison == runs[2].record.comparison

    def test_shares_its_worker_with_those_before_it_and_with_none_after(self, run_kvbench: Run, tmp_path: Path) -> None:
        failing = ("model.fail_with=error", "model.fail_at_step=null,20,null")
        assert 1 == run_kvbench("-m", *QUICK, "report=false", *failing)[0]
        runs = [run.record for run in points(tmp_path / "results")]
        before, failed, after = (run.environment["worker"]["pid"] for run in runs)
        assert ["ok", "failed", "ok"] == [run.status for run in runs]
        assert (True, False) == (before == failed, failed == after)


class TestTheExitCode:
    @pytest.mark.parametrize(
        ("sweep", "code", "statuses"),
        [
            ("measure.blocks=5,6", 0, ["ok", "ok"]),
            ("measure.blocks=5,4", 3, ["ok", "invalid"]),
            ("measure.blocks=4,0", 1, ["invalid", "refused"]),
            ("model.fail_at_step=null,5", 1, ["ok", "failed"]),
        ],
    )
    def test_is_that_of_the_worst_point(
        self, run_kvbench: Run, tmp_path: Path, sweep: str, code: int, statuses: list[str]
    ) -> None:
        assert code == run_kvbench("-m", *INLINE, sweep)[0]
        assert sorted(statuses) == sorted(run.record.status for run in points(tmp_path / "results"))

    @pytest.mark.parametrize(
        ("overrides", "named"),
        [
            (["mode=nosuch,other"], "mode=nosuch"),
            (["workload.new_tokens=0,1"], "workload.new_tokens=0"),
            (["hydra/launcher=other"], "there are basic, joblib, submitit_local"),
            (["workload.prompts=nowhere.txt", "workload.prompt_tokens=null", "mode=cached,both"], "no such file"),
            (["workload.new_tokens=interval(2,4)"], "an interval has no list of values"),
            (["model=nosuch*", "model=glob(nosuch*)"], "model"),
            (["mode=[cached"], "Hydra's grammar"),
        ],
    )
    def test_is_2_with_nothing_left_behind_when_no_point_composes(
        self, run_kvbench: Run, tmp_path: Path, overrides: list[str], named: str
    ) -> None:
        code, out, err = run_kvbench("-m", *INLINE, *overrides)
        assert (2, "") == (code, out)
        assert named in err
        assert err.startswith("kvbench: ")
        assert 1 == err.count("\n")
        assert [] == list(tmp_path.iterdir())

    def test_is_2_when_the_results_cannot_be_written(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "results").write_text("in the way")
        code, _, err = run_kvbench("-m", *INLINE, "mode=cached,nocache")
        assert 2 == code
        assert "results_dir=" in err
        assert 1 == err.count("\n")


def test_ids_of_many_points_of_one_second_do_not_meet() -> None:
    from kvbench.point import new_run_id

    assert 2000 == len({new_run_id() for _ in range(2000)})
