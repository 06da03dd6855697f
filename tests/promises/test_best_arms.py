"""The table of best arms says what the records of a sweep say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "best_arms.py"
SWEEP = (
    *("-m", "experiment=best_arms", "model=scripted", "launch=inline", "report=false", "name=best"),
    *("workload.new_tokens=3", "model.nocache_step_s=0.001", "model.nocache_per_token_s=0.001"),
    "model.cached_step_s=0.002",
)


def printed(*paths: Path) -> tuple[int, list[str], str]:
    ended = subprocess.run([sys.executable, SCRIPT, *paths], capture_output=True, text=True)
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


def test_a_row_a_point_with_eager_and_best_speed_ups(run_kvbench: Run, tmp_path: Path) -> None:
    assert 0 == run_kvbench(*SWEEP, "workload.prompt_tokens=100,126", "workload.batch_size=1,8")[0]
    code, lines, errors = printed(tmp_path / "results")
    assert (0, "") == (code, errors)
    # At 101.5 tokens on average a recompute step takes 102.5 ms, one padded to 128 takes 129 ms: exact lengths are the
    # best here. A cached step takes 2 ms, whatever its engine.
    best = "nocache, 102 ms a step | cached (dynamic), 2.00 ms a step |"
    assert f"| 100 | 1 | 51.25× [51.25, 51.25] | 51.25× [51.25, 51.25] | {best}" == lines[4]
    assert ["100 | 1", "100 | 8", "126 | 1", "126 | 8"] == [line[2:].rpartition(" | ")[0][:7] for line in lines[4:8]]
    assert 8 == len(lines)


def test_the_best_arm_is_the_fastest_of_any_engine_and_named(run_kvbench: Run, tmp_path: Path) -> None:
    arms = (
        "arms=[{mode: nocache, bucket: 16},{mode: cached},{mode: nocache, engine: compiled, bucket: 1},"
        "{mode: nocache, habit: python_list}]"
    )
    assert 0 == run_kvbench(*SWEEP, arms, "workload.prompt_tokens=8", "workload.batch_size=1")[0]
    _, lines, _ = printed(tmp_path / "results")
    # Contexts of 9 and 10 tokens: 17 ms padded to 16, 10.5 ms as they are.
    best = "nocache (compiled, bucket 1), 10.5 ms a step | cached (dynamic), 2.00 ms a step |"
    assert f"| 8 | 1 | 8.50× [8.50, 8.50] | 5.25× [5.25, 5.25] | {best}" == lines[4]


def test_a_run_without_eager_arms_has_no_eager_speed_up(run_kvbench: Run, tmp_path: Path) -> None:
    arms = "arms=[{mode: nocache, engine: compiled},{mode: cached, engine: compiled}]"
    assert 0 == run_kvbench(*SWEEP, arms, "workload.prompt_tokens=8", "workload.batch_size=1")[0]
    _, lines, _ = printed(tmp_path / "results")
    assert lines[4].startswith("| 8 | 1 | the run lacks such arms | ")


def test_a_point_that_is_no_result_says_how_it_ended(run_kvbench: Run, tmp_path: Path) -> None:
    failing = ("workload.prompt_tokens=8,16", "model.fail_at_step=3", "model.fail_with=oom")
    assert 1 == run_kvbench(*SWEEP, *failing)[0]
    code, lines, _ = printed(tmp_path / "results")
    assert 0 == code
    assert ["| 8 | 1 | oom | — | — | — |", "| 16 | 1 | oom | — | — | — |"] == lines[4:6]


def test_nothing_to_read_is_an_error_of_one_line(tmp_path: Path) -> None:
    code, lines, errors = printed(tmp_path / "nowhere")
    assert (2, []) == (code, lines)
    assert 1 == len(errors.splitlines())
