"""A run that takes too long is ended for real, keeps what it has, and lets the sweep go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from kvbench.records.store import find_runs

Run = Callable[..., tuple[int, str, str]]
# Real time: 8 visits of 2 ms a block, so that some blocks end before the limit and not all of them.
SLOW = (
    "model=scripted", "model.virtual_time=false", "model.prefill_s=0.001", "model.cached_step_s=0.001",
    "model.nocache_step_s=0.001", "workload.prompt_tokens=4", "workload.new_tokens=2", "measure.blocks=100000",
    "measure.timeout_s=4", "report=false",
)  # fmt: skip
STUCK = (
    "model=scripted", "model.virtual_time=false", "model.prefill_s=600", "workload.prompt_tokens=4",
    "measure.timeout_s=3", "report=false",
)  # fmt: skip


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process(os.getpid()).children() if child.status() != psutil.STATUS_ZOMBIE]


class TestARunThatTakesTooLong:
    def test_is_a_record_with_its_finished_blocks(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, said, _ = run_kvbench(*SLOW)
        (run,) = find_runs([tmp_path / "results"]).runs
        assert (1, "timeout") == (code, run.record.status)
        assert "ended after 4 s (measure.timeout_s)" in str(run.record.status_reason)
        assert "TIMEOUT" in said
        blocks = (run.folder / "blocks.jsonl").read_text().splitlines()
        assert 0 < len(blocks) == run.record.arms[0].itl_s.n

    def test_is_ended_in_the_middle_of_a_step_and_leaves_no_process(self, run_kvbench: Run, tmp_path: Path) -> None:
        before = {process.pid for process in workers()}
        began = time.monotonic()
        code, _, _ = run_kvbench(*STUCK)
        assert code == 1
        assert time.monotonic() - began < 60  # a step takes 600 s
        names = [" ".join(process.cmdline()) for process in workers() if process.pid not in before]
        assert not [name for name in names if "spawn_main" in name]

    def test_does_not_stop_the_sweep(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, _ = run_kvbench("-m", *STUCK, "model.prefill_s=600,0.001", "workload.new_tokens=2")
        found = find_runs([tmp_path / "results"]).runs
        assert (1, ["ok", "timeout"]) == (code, sorted(run.record.status for run in found))


def test_a_limit_that_nothing_could_enforce_is_refused(run_kvbench: Run) -> None:
    code, _, error = run_kvbench(*STUCK, "launch=inline")
    assert (2, True) == (code, "measure.timeout_s=3: has no effect with launch=inline" in error), error
