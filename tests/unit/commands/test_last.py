"""`last`, or nothing, stands for the newest run in the results folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
POINT = ("model=scripted", "report=false", "measure.blocks=5", "check.agreement=none", "stream.interval=0")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_that_reads_runs_takes_it(run_kvbench: Run, here: Path) -> None:
    for name in ("older", "newer"):
        run_kvbench(*POINT, f"name={name}")
    for record in here.glob("results/older/*/run.json"):
        os.utime(record, (1, 1))
    (newest,) = here.glob("results/newer/*")
    assert all("newer" in run_kvbench(*words)[1] for words in (("show",), ("show", "last"), ("show", "--json")))
    assert "newer" in run_kvbench("export", "--format", "csv")[1]
    assert str(newest.relative_to(here)) in run_kvbench("report")[1]
    assert (newest / "report.html").exists()
    assert "name: newer" in run_kvbench("--config-path", "last", "--cfg", "job")[1]
    code, out, err = run_kvbench("compare", "results/older", "last")
    assert (5, "") == (code, err)  # too few runs for a verdict: both were read
    assert "Exit code 5" in out


def test_a_folder_of_that_name_is_itself(run_kvbench: Run, here: Path) -> None:
    run_kvbench(*POINT, "results_dir=last")
    assert 0 == run_kvbench("show", "last")[0]


def test_without_a_run_the_line_says_how_to_get_one(run_kvbench: Run, here: Path) -> None:
    code, _, err = run_kvbench("show")
    assert (2, "kvbench: last: no run in results/ here; measure one with `python -m kvbench`, or name a path\n") == (
        code,
        err,
    )
