"""A point that the worker refuses costs neither worker nor model; one that fails in it costs the worker."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvbench.config.compose import load_config, sources
from kvbench.errors import ModelUnavailable
from kvbench.plan import make_plan
from kvbench.records.run_record import RunRecord
from kvbench.records.samples import Prepared
from kvbench.records.store import find_runs
from kvbench.running.faults import Fault
from kvbench.running.supervisor import Supervisor
from kvbench.running.worker import Done, leaves_compiled_code

Run = Callable[..., tuple[int, str, str]]

COMMON = ("measure.warmup=0", "measure.blocks=5", "stream.interval=0", "launch=worker", "report=false")
SCRIPTED = ("model=scripted", "workload.prompt_tokens=5", *COMMON)


@pytest.fixture
def points(run_kvbench: Run, tmp_path: Path) -> Callable[..., list[RunRecord]]:
    """Sweeps with a worker; the records of the points in their order."""

    def sweep(*overrides: str) -> list[RunRecord]:
        assert 1 == run_kvbench("-m", *overrides)[0]  # some point is refused or fails
        return [found.record for found in find_runs([tmp_path / "results"]).runs]

    return sweep


PROGRAM = """
import sys
from kvbench.__main__ import main
if __name__ == "__main__":
    code = main(sys.argv[1:])
    print(code, sorted({"torch", "transformers"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[RunRecord]]:
    """A sweep of the embedded model in a process of its own, four points refused: its last line, and the records."""
    folder = tmp_path_factory.mktemp("real")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    arguments = ["-m", *COMMON, "report=true", "threads=1", "workload.new_tokens=3"]
    arguments += ["mode=cached", "measure.step_lane=false", "measure.energy_s=0"]
    points = ["workload.prompt_tokens=5,5000,6", "workload.stop=[9999],[298]"]
    done = subprocess.run(
        [sys.executable, str(program), *arguments, *points], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1], [found.record for found in find_runs([folder / "results"]).runs]


Points = Callable[..., list[RunRecord]]


def statuses(runs: list[RunRecord]) -> list[str]:
    return [run.status for run in runs]


def workers(runs: list[RunRecord]) -> list[tuple[int, str]]:
    """Process ids, which the system may use again, with when the process began."""
    return [(run.environment["worker"]["pid"], run.environment["worker"]["started_at"]) for run in runs]


class TestARefusedPoint:
    def test_of_a_model_that_is_not_there_keeps_the_worker(self, points: Points) -> None:
        runs = points(*COMMON, "workload.prompt_tokens=5", "workload.new_tokens=4,5", "model=scripted,./nowhere")
        assert ["ok", "refused", "ok", "refused"] == statuses(runs)
        assert "model.path=./nowhere: no such folder" == runs[1].status_reason
        before, after = workers([runs[0], runs[2]])
        assert before == after

    def test_that_does_not_fit_the_model_keeps_worker_and_model(self, real: tuple[str, list[RunRecord]]) -> None:
        runs = real[1]
        assert ["refused", "ok", "refused", "refused", "refused", "ok"] == statuses(runs)
        assert all("reads at most 4096" in str(run.status_reason) for run in runs[2:4])
        assert all("9999 is past the vocabulary of" in str(run.status_reason) for run in (runs[0], runs[4]))
        measured = [run for run in runs if run.status == "ok"]
        assert 1 == len(set(workers(measured)))
        # Loading it again would not take the same time to the nanosecond.
        assert 1 == len({run.arms[0].cold.load_s for run in measured})


def test_the_parent_of_a_real_model_s_worker_never_imports_torch(real: tuple[str, list[RunRecord]]) -> None:
    """Not by itself, with the report it draws, and not by what it is sent."""
    assert "1 []" == real[0]


class TestAFailedPoint:
    @pytest.mark.parametrize(
        ("how", "status"),
        [("error", "failed"), pytest.param("oom", "oom", marks=pytest.mark.slow), ("crash", "crashed")],
    )
    def test_costs_every_time_a_worker_and_no_more_than_that(self, points: Points, how: str, status: str) -> None:
        steps = "model.fail_at_step=9000,21,22,9001"
        runs = points(*SCRIPTED, "workload.new_tokens=4", f"model.fail_with={how}", steps)
        assert ["ok", status, status, "ok"] == statuses(runs)
        used = workers(runs)
        assert 3 == len(set(used))
        assert used[0] == used[1]  # the one that was measured before the failure


def test_points_that_are_measured_share_one_worker(run_kvbench: Run, tmp_path: Path) -> None:
    assert 0 == run_kvbench("-m", *SCRIPTED, "workload.new_tokens=4,5,6")[0]
    runs = [found.record for found in find_runs([tmp_path / "results"]).runs]
    assert (3, 1) == (len(runs), len(set(workers(runs))))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model=embedded"], False),
        (["model=embedded", "mode=cached", "cache=static", "engine=compiled"], True),
        (["model=embedded", "arms=[{mode: nocache},{mode: cached, cache: static, engine: graph}]"], True),
        (["model=scripted", "mode=cached", "cache=static", "engine=compiled"], False),
    ],
)
def test_a_worker_that_has_compiled_or_captured_a_step_times_no_other_run(overrides: list[str], expected: bool) -> None:
    assert expected == leaves_compiled_code(make_plan(load_config(overrides, sources())))


BEGUN = Prepared({}, {}, (), (), 0.0)
REFUSED = Fault("ModelUnavailable", "engine=graph: a pass of GPT cannot be captured")


@pytest.mark.parametrize(
    ("messages", "stays"),
    [([Done(True)], True), ([Done(False)], False), ([REFUSED], True), ([BEGUN, REFUSED], False)],
    ids=["fit", "not fit", "refused at once", "refused in the middle of a run"],
)
def test_a_worker_that_may_not_be_as_it_was_before_its_run_times_no_other(
    messages: list[Any], stays: bool, tmp_path: Path
) -> None:
    ours, theirs = multiprocessing.Pipe()
    sentinel, _still_open = multiprocessing.Pipe()
    ended: list[str] = []
    process = SimpleNamespace(
        pid=None, sentinel=sentinel, join=lambda *_: None, kill=lambda: ended.append("killed"), is_alive=lambda: True
    )
    supervisor = Supervisor()
    supervisor._process, supervisor._connection = process, ours  # type: ignore[assignment]
    for message in messages:
        theirs.send(message)
    plan = make_plan(load_config(["model=scripted"], sources()))
    with suppress(ModelUnavailable):
        supervisor.measure(plan, tmp_path / "log", lambda _: None)
    assert (stays, [] if stays else ["killed"]) == (supervisor._process is process, ended)
