"""A sweep through a launcher: every point once, wherever it runs, one report, and nothing lost with a job."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked_launcher
import pytest

from kvbench.installation import install_hint
from kvbench.launching import launchers
from kvbench.launching.order import Claim, Journal, Order, Outcome
from kvbench.records.store import RECORD, REPORT, find_runs
from kvbench.report.exports.trackers import SENDERS

Run = Callable[..., tuple[int, str, str]]

QUICK = (
    *("model=scripted", "launch=inline", "stream.interval=0", "workload.prompt_tokens=5", "workload.new_tokens=4"),
    *("measure.warmup=0", "measure.blocks=5"),
)
POINTS = (*QUICK, "model.devices=2", "workload.batch_size=1,2,3,4")
LAUNCHED = ("-m", *POINTS, "hydra/launcher=forked", "jobs=2", "report=false")


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    forked_launcher.register(monkeypatch)


@pytest.fixture(autouse=True)
def this_process_stays_as_it_is() -> Iterator[None]:
    cores, folder = os.sched_getaffinity(0), Path.cwd()
    yield
    assert cores == os.sched_getaffinity(0)
    os.chdir(folder)


def flat(text: str) -> str:
    return " ".join(text.split())


def the_sweep(results: Path) -> Path:
    (folder,) = results.glob("sweep-*")
    return folder


def batches(results: Path) -> list[int]:
    """The batch size of every run, which tells the points of these sweeps apart."""
    return sorted(run.record.config["workload"]["batch_size"] for run in find_runs([results]).runs)


class TestASweepInTwoJobs:
    def test_measures_every_point_once_and_tells_all_in_one_report(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, out, err = run_kvbench(*LAUNCHED[:-1])
        assert (0, "") == (code, err), out
        results = tmp_path / "results"
        assert [1, 2, 3, 4] == batches(results)
        page = (the_sweep(results) / REPORT).read_text()
        runs = find_runs([results]).runs
        assert all(run.record.run_id in page for run in runs)
        assert "4 points in 2 jobs (hydra/launcher=forked)" in flat(out)
        assert ["[1/4]", "[2/4]", "[3/4]", "[4/4]"] == [f"[{each}/4]" for each in (1, 2, 3, 4) if f"[{each}/4]" in out]
        # Cores are split between jobs of one host, and each run says who else was there, or that nobody was.
        cores = os.sched_getaffinity(0)
        assert {max(1, len(cores) // 2)} >= {run.record.environment["usable_cores"] for run in runs} or len(cores) % 2
        assert all(isinstance(run.record.environment["concurrent_runs"], list) for run in runs)

        # Run again, it has nothing left to do, and says so.
        code, out, _ = run_kvbench(*LAUNCHED)
        assert (0, [1, 2, 3, 4]) == (code, batches(results))
        assert "4 of 4 points were measured before and left out" in flat(out)

    def test_sends_every_run_that_measured_something_to_its_tracker(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def send(sent: Any, _: Path) -> str:
            (tmp_path / f"sent-{sent.run_id}").touch()
            if sent.parameters["batch_size"] == 3:
                raise RuntimeError("no route to host")
            return "over there"

        monkeypatch.setitem(SENDERS, "tensorboard", send)
        monkeypatch.setattr("kvbench.readiness.is_installed", lambda _: True)
        code, out, err = run_kvbench(*LAUNCHED, "track=tensorboard")
        assert (0, "") == (code, err), out
        runs = {run.record.run_id for run in find_runs([tmp_path / "results"]).runs}
        assert runs == {file.name.removeprefix("sent-") for file in tmp_path.glob("sent-*")}
        assert 1 == flat(out).count("not sent to tensorboard: no route to host")
        logs = [flat(file.read_text()) for file in the_sweep(tmp_path / "results").glob("job-*.log")]
        assert 3 == sum(log.count("sent to tensorboard: over there") for log in logs)

    def test_records_what_cannot_be_measured_and_goes_on(self, run_kvbench: Run, tmp_path: Path) -> None:
        points = tuple(each for each in LAUNCHED if "new_tokens" not in each and "batch" not in each)
        code, out, _ = run_kvbench(*points, "workload.new_tokens=1,4", "mode=cached,both")
        assert 1 == code
        statuses = Counter(run.record.status for run in find_runs([tmp_path / "results"]).runs)
        assert {"ok": 2, "refused": 2} == statuses
        assert "workload.new_tokens=1: must be at least 2" in flat(out)

    def test_loses_no_more_than_the_point_that_ends_its_jobs(self, run_kvbench: Run, tmp_path: Path) -> None:
        # Three steps a generation: with five blocks more, the third point's script ends its process, inline the job.
        crash = ("model.fail_at_step=100", "model.fail_with=crash", "measure.blocks=1,2,40,3")
        points = tuple(each for each in LAUNCHED if "blocks" not in each and "batch_size" not in each)
        code, out, _ = run_kvbench(*points[:-1], *crash)
        assert 1 == code
        blocks = [run.record.config["measure"]["blocks"] for run in find_runs([tmp_path / "results"]).runs]
        assert [1, 2, 3] == sorted(blocks)
        assert "1 of 4 points have no record: measure.blocks=40" in flat(out)
        assert "measure.blocks=40" in (the_sweep(tmp_path / "results") / REPORT).read_text()
        # Two jobs were lost over it, and none was sent after them.
        claims = [each for each in Journal(the_sweep(tmp_path / "results"), 0).news() if isinstance(each, Claim)]
        assert 2 == sum(claim.point == 2 for claim in claims)

    def test_has_one_job_for_each_model_where_jobs_do_not_share_a_host(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forked_launcher.register(monkeypatch, is_local=False)
        options = [each for each in LAUNCHED if not each.startswith("jobs") and "batch" not in each]
        code, out, _ = run_kvbench(*options, "workload.batch_size=1,2", "model.seed=1,2,3")
        assert 0 == code, out
        order = json.loads((the_sweep(tmp_path / "results") / "order.json").read_bytes())
        assert (3, 1) == (len(order["parts"]), order["lanes"])
        seeds = [
            {each for point in part for each in order["points"][point] if "seed" in each} for part in order["parts"]
        ]
        assert [{"model.seed=1"}, {"model.seed=2"}, {"model.seed=3"}] == seeds
        assert [1, 1, 1, 2, 2, 2] == batches(tmp_path / "results")

    def test_goes_on_where_its_only_job_was_killed(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a queue does that starts a job again: the same order, and what was begun is begun once more."""
        from kvbench.launching import lane

        options = [each for each in LAUNCHED if not each.startswith("jobs")]
        forked_launcher.register(monkeypatch, is_local=False)
        monkeypatch.setattr(forked_launcher.Forked, "launch", lambda *_, **__: [])
        assert 1 == run_kvbench(*options)[0]
        sweep = the_sweep(tmp_path / "results")
        Journal(sweep, 0).append(Claim(0, 0, 1, "elsewhere"))  # of the job that was killed
        job = os.fork()
        if job == 0:
            answer = lane.run(type("Task", (), {"order": str(sweep), "part": 0, "lane": 0}))
            os._exit(0 if answer == {"points": 4} else 1)
        assert 0 == os.waitpid(job, 0)[1]
        assert [1, 2, 3, 4] == batches(tmp_path / "results")


class TestWhatALauncherIsAskedFor:
    @pytest.mark.parametrize(
        ("overrides", "sentence"),
        [
            (("hydra/launcher=jobslib",), "kvbench knows no such launcher; there are basic, joblib"),
            (("hydra/launcher=forked", "hydra.launcher.pauses=1"), "has no such key; did you mean pause_s? it has"),
            (("hydra.launcher.n_jobs=2",), "a key of a launcher; choose one with hydra/launcher="),
            (("hydra/launcher=forked,joblib",), "kvbench knows no such launcher"),
            (("jobs=2",), "has no effect without a launcher"),
            (("jobs=2,3", "hydra/launcher=forked"), "a sweep has one jobs; give one value"),
        ],
    )
    def test_is_refused_before_anything_where_it_cannot_be_meant(
        self, run_kvbench: Run, tmp_path: Path, overrides: tuple[str, ...], sentence: str
    ) -> None:
        code, _, err = run_kvbench("-m", *QUICK, *overrides)
        assert (2, 1) == (code, err.count("\n"))
        assert sentence in err
        assert not (tmp_path / "results").exists()

    def test_is_told_how_to_be_installed_in_one_sentence(
        self, run_kvbench: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(launchers, "is_installed", lambda _: False)
        for name, extra in (
            ("joblib", "joblib"),
            ("submitit_slurm", "slurm"),
            ("submitit_local", "slurm"),
            ("ray", "ray"),
        ):
            code, _, err = run_kvbench("-m", *QUICK, f"hydra/launcher={name}")
            assert (2, 1) == (code, err.count("\n"))
            assert f"its package is not installed: {install_hint(extra)}" in err

    def test_needs_a_sweep(self, run_kvbench: Run) -> None:
        code, _, err = run_kvbench(*QUICK, "hydra/launcher=joblib")
        assert 2 == code
        assert "give it on the command line, with -m" in err


def ordered(results: Path, name: str, points: list[tuple[str, ...]]) -> Path:
    sweep = results / name
    sweep.mkdir(parents=True)
    indices = tuple(range(len(points)))
    where: dict[str, Any] = {"config_path": "conf", "config_name": "config", "config_dir": None, "environ": {}}
    whole = {"results_dir": str(results), "folder": str(results), **where}
    Order(tuple(points), (0,) * len(points), (indices,), 1, **whole).write(sweep)
    return sweep


class TestAReportWhileJobsRun:
    def test_shows_what_is_there_and_what_is_missing(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*QUICK)
        results = tmp_path / "results"
        (run,) = results.rglob(RECORD)
        points = [(f"workload.batch_size={size}",) for size in range(1, 8)]
        sweep = ordered(results, "sweep-1", points)
        journal = Journal(sweep, 0)
        for entry in (Claim(0, 0, 7, "host"), Outcome(0, str(run.parent), "ok"), Claim(1, 0, 7, "host")):
            journal.append(entry)
        code, _, err = run_kvbench("report", str(results))
        told = (
            "sweep-1: 1 of 7 points have ended, 1 had begun without a record, 5 had not begun: workload.batch_size=2; "
        )
        assert 0 == code
        assert told in err
        assert told in (results / REPORT).read_text()

        # A later sweep has measured them: nobody misses them any more.
        journal = Journal(ordered(results, "sweep-2", points), 0)
        for point in range(7):
            journal.append(Outcome(point, str(run.parent), "ok"))
        assert "" == run_kvbench("report", str(results))[2]


class TestADryRun:
    def test_tells_what_is_left_what_it_takes_and_writes_nothing(self, run_kvbench: Run, tmp_path: Path) -> None:
        results = tmp_path / "results"
        run_kvbench(*QUICK, "measure.blocks=5", "report=false")
        (run,) = find_runs([results]).runs
        before = sorted(results.rglob("*"))
        code, out, _ = run_kvbench(
            "-m", "--dry-run", *QUICK, "report=false", "measure.blocks=5,10,0", "mode=both,cached"
        )
        assert (0, before) == (code, sorted(results.rglob("*")))
        text = flat(out)
        assert "6 points: 3 to be measured, 1 already measured, 2 refused" in text
        assert "2 points have no basis for a time and are not in the sum" in text
        assert "time: no earlier run of this model, these arms and this device in results_dir" in text
        assert f"time: {run.record.run_id} on scripted, by the tokens decoded" in text

    def test_needs_no_results(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, out, _ = run_kvbench("--dry-run", *QUICK)
        assert 0 == code
        assert "1 points have no basis" in flat(out)
        assert not (tmp_path / "results").exists()
