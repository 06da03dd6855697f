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
