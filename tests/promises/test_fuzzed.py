"""The fuzzers of tests/benchmarks, with a few cases: whatever is broken, a run ends in one line and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.slow


def table_of(script: str, *options: str) -> str:
    """What a script prints when nothing is wrong."""
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / script), *options]
    # Its own process: forks of one that has pytest's threads and captures would not be those of a person's shell.
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.skipif(find_spec("hypothesis") is None, reason="hypothesis makes the folders")
def test_a_broken_model_folder_is_measured_or_refused_in_one_line() -> None:
    assert "seed 3, 60 folders" in table_of("fuzz_models.py", "--cases", "60", "--seed", "3")


@pytest.mark.skipif(which("gcc") is None, reason="the library that injects faults is compiled")
def test_a_fault_of_the_disk_loses_no_block_and_leaves_a_sweep_that_goes_on() -> None:
    assert "sweep: 0 wrong" in table_of("disk_faults.py", "--cases", "20", "--seed", "3")


def test_a_long_sweep_stays_as_small_as_it_began() -> None:
    assert table_of("soak.py", "--scripted", "60", "--embedded", "0").endswith("flat\n")
