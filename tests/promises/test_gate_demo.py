"""The demonstration of the gate on commits of a toy model shows what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "benchmarks" / "gate_demo.py"


@pytest.mark.slow  # the verdicts and their exit codes are test_compare.py's; this is about the demonstration
def test_ten_percent_is_slower_the_same_commit_is_not_and_five_is_found_at_a_relevance_of_two(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, DEMO, "--scripted"], cwd=tmp_path, capture_output=True, text=True)
    lines = ended.stdout.splitlines()
    assert (0, "") == (ended.returncode, ended.stderr)
    assert ["1: right", "0: right", "1: right"] == [
        line.removeprefix("exit code ") for line in lines if line.startswith("exit code ")
    ]
    assert ["SLOWER", "SAME", "SLOWER"] == [line.partition(" over ")[0] for line in lines if " over 1 row(s)" in line]


@pytest.mark.slow  # the Action's script with a stand-in for kvbench is test_packaging.py's, the A/B itself test_ab.py's
def test_the_actions_script_finds_a_scripted_slowdown_and_none_in_the_same_commit(tmp_path: Path) -> None:
    demo = DEMO.with_name("ab_demo.py")
    ended = subprocess.run([sys.executable, demo, "--scripted"], cwd=tmp_path, capture_output=True, text=True)
    lines = ended.stdout.splitlines()
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert ["verdict=SLOWER", "verdict=SAME"] == [line for line in lines if line.startswith("verdict=")]
    assert ["exit code 1: right", "exit code 0: right"] == [line for line in lines if line.startswith("exit code ")]
