"""The launchers that people install, each over one short sweep; where a package is missing its test is skipped."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvbench.launching.launchers import KINDS
from kvbench.records.store import REPORT, find_runs

POINTS = (
    *("-m", "model=scripted", "model.devices=2", "stream.interval=0", "workload.prompt_tokens=5"),
    *("measure.warmup=0", "measure.blocks=5", "workload.batch_size=1,2,3"),
)
SETTINGS = {"joblib": ("hydra.launcher.n_jobs=2",), "submitit_local": ("jobs=2",), "ray": ("jobs=2",)}


def command(folder: Path, name: str, *more: str) -> subprocess.Popen[str]:
    """A sweep through this launcher, in a session of its own; skips where the launcher is not installed."""
    try:
        installed = importlib.util.find_spec(KINDS[name].module) is not None
    except ModuleNotFoundError:
        installed = False
    if not installed:
        pytest.skip(f"{name} is not installed: pip install 'kvbench[{KINDS[name].extra}]'")
    asked = (*POINTS, f"hydra/launcher={name}", *SETTINGS[name], *more)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-m", "kvbench", *asked],
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_every_point_has_its_record_and_all_are_in_one_report(name: str, tmp_path: Path) -> None:
    sweep = command(tmp_path, name, "workload.new_tokens=4")
    out, err = sweep.communicate()
    assert 0 == sweep.returncode, out + err
    runs = find_runs([tmp_path / "results"]).runs
    assert [(1, "ok"), (2, "ok"), (3, "ok")] == sorted(
        (run.record.config["workload"]["batch_size"], run.record.status) for run in runs
    )
    (report,) = (tmp_path / "results").rglob(REPORT)
    assert all(run.record.run_id in report.read_text() for run in runs)


@pytest.mark.parametrize("name", ["joblib", "submitit_local"])
def test_a_sweep_that_is_stopped_has_the_records_of_what_it_was_at(name: str, tmp_path: Path) -> None:
    sweep = command(tmp_path, name, "model.virtual_time=false", "workload.new_tokens=64", "measure.blocks=10000")
    while not list(tmp_path.rglob("blocks.jsonl")):
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.1)
    os.kill(sweep.pid, signal.SIGINT)
    out, err = sweep.communicate()
    assert 130 == sweep.returncode, out + err
    assert {"interrupted"} == {run.record.status for run in find_runs([tmp_path / "results"]).runs}
    assert "have no record" in out
