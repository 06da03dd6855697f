"""`kill -9` of parent or worker at any moment: finished blocks stay readable, finished points stay finished.

One sweep after another is started again and again and killed at random moments, until so many kills have fallen. What
was on the disk before a kill must be there after it, to the byte; what was finished is left out by the next start.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from preloaded import Preloaded, PreloadedRun

from kvbench.records.store import BLOCKS, RECORD, find_runs, read_blocks

# The few kills fall into runs that have imported kvbench when they begin, the many into Python's own start too.
KILLS = [(3, False), pytest.param(50, True, marks=pytest.mark.slow)]
SEEDS = 4  # points of a sweep
BLOCKS_A_RUN = 6
STARTING_S = 1.0  # in which a start is composing, or has begun its worker
BLOCK_S = 0.03  # about what a block takes
DEADLINE_S = 120.0
SWEEP = (
    *("-m", "model=scripted", "model.virtual_time=false", f"model.seed=range(0,{SEEDS})", "report=false"),
    *("model.prefill_s=0.002", "model.cached_step_s=0.002", "model.nocache_step_s=0.002"),
    *("workload.prompt_tokens=4", "workload.new_tokens=4", f"measure.blocks={BLOCKS_A_RUN}", "stream.interval=0"),
)  # fmt: skip


@dataclass
class Campaign:
    """One results folder, the kills that fell into it, and what was there after each."""

    folder: Path
    preloaded: Preloaded | None = None  # None: every start is Python's own
    starts: int = 0
    kills: int = 0
    finished: dict[str, bytes] = field(default_factory=dict)  # path of a finished record -> its bytes
    lines: dict[str, list[str]] = field(default_factory=dict)  # path of blocks -> its whole lines

    def start(self) -> subprocess.Popen[str] | PreloadedRun:
        self.starts += 1
        if self.preloaded is not None:
            outputs = self.folder / f"outputs-{self.starts}"
            return self.preloaded.start(*SWEEP, cwd=self.folder, outputs=outputs)
        return subprocess.Popen(
            [sys.executable, "-m", "kvbench", *SWEEP],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def look(self) -> None:
        """Everything readable, nothing gone that was there before."""
        results = self.folder / "results"
        if not results.exists():
            return
        found = find_runs([results])
        assert () == found.unreadable
        for path, content in self.finished.items():
            assert content == Path(path).read_bytes()
        for path, before in self.lines.items():
            assert before == Path(path).read_text().split("\n")[: len(before)]
        for run in found.runs:
            self.finished[str(run.folder / RECORD)] = (run.folder / RECORD).read_bytes()
        for blocks in results.rglob(BLOCKS):
            whole = blocks.read_text().split("\n")[:-1]  # after the last line break there may be a part of a line
            self.lines[str(blocks)] = whole
            assert list(range(len(whole))) == [json.loads(line)["index"] for line in whole]
            assert len(whole) <= len(read_blocks(blocks.parent)) <= len(whole) + 1

    def written(self) -> int:
        """Blocks on the disk."""
        return sum(blocks.read_bytes().count(b"\n") for blocks in (self.folder / "results").rglob(BLOCKS))

    def statuses(self) -> list[str]:
        """Of every record, by the seed of its point."""
        runs = find_runs([self.folder / "results"]).runs
        return sorted(f"{run.record.config['model']['seed']} {run.record.status}" for run in runs)


def victim_of(process: subprocess.Popen[str] | PreloadedRun, dice: random.Random) -> int:
    """The parent, or its worker where there is one."""
    try:
        children = psutil.Process(process.pid).children()
        workers = [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        workers = []
    return dice.choice([process.pid, *workers])


def wait_at_random(campaign: Campaign, process: subprocess.Popen[str] | PreloadedRun, dice: random.Random) -> None:
    """For some moment of the start, or until there are some more blocks than before and another has begun."""
    more = dice.randint(-2, 2 * BLOCKS_A_RUN)
    if more < 0:
        time.sleep(dice.uniform(0.0, STARTING_S))
        return
    before = campaign.written()
    while process.poll() is None and campaign.written() < before + more:
        time.sleep(0.002)
    time.sleep(dice.uniform(0.0, BLOCK_S))


def kill_at_random(campaign: Campaign, dice: random.Random) -> bool:
    """Start the sweep and kill it somewhere on its way; whether it was still there to be killed."""
    process = campaign.start()
    wait_at_random(campaign, process, dice)
    fell = process.poll() is None
    if fell:
        victim = victim_of(process, dice)
        os.kill(victim, signal.SIGKILL)
        campaign.kills += 1
        if victim != process.pid:  # the sweep goes on without its worker; it may do so for a while, or be killed too
            time.sleep(dice.uniform(0.0, 0.3))
            process.kill()
    _, err = process.communicate(timeout=DEADLINE_S)
    # A worker whose parent dies before it is told what to be says so by Python's own means, which name no file of ours.
    assert "Traceback" not in err or "kvbench" not in err
    return fell


def finish(campaign: Campaign) -> None:
    """What is left of the sweep is measured; what was finished is left out; every point is there, once."""
    process = campaign.start()
    _, err = process.communicate(timeout=DEADLINE_S)
    assert (0, "") == (process.returncode, err)
    campaign.look()
    ended_well = [status for status in campaign.statuses() if status.endswith(" ok")]
    assert [f"{seed} ok" for seed in range(SEEDS)] == ended_well
    for run in find_runs([campaign.folder / "results"]).runs:
        if run.record.status == "ok":
            assert BLOCKS_A_RUN == len(read_blocks(run.folder))


@pytest.mark.parametrize(("kills", "fresh"), KILLS)
def test_kills_at_any_moment_lose_nothing(tmp_path: Path, preloaded: Preloaded, kills: int, fresh: bool) -> None:
    dice = random.Random(4)
    fallen = 0
    for number in range(kills):  # of folders, at most: every one takes several kills
        campaign = Campaign(tmp_path / str(number), None if fresh else preloaded)
        campaign.folder.mkdir()
        while fallen < kills and kill_at_random(campaign, dice):
            fallen += 1
            campaign.look()
        finish(campaign)
        if fallen == kills:
            break
    assert kills == fallen


def test_a_killed_worker_is_a_record_and_the_sweep_goes_on(tmp_path: Path, preloaded: Preloaded) -> None:
    campaign = Campaign(tmp_path, preloaded)
    process = campaign.start()
    deadline = time.monotonic() + DEADLINE_S
    while not list(tmp_path.rglob(BLOCKS)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    (worker,) = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    worker.kill()
    process.communicate(timeout=DEADLINE_S)
    assert 1 == process.returncode
    assert ["0 crashed", "1 ok", "2 ok", "3 ok"] == campaign.statuses()
    (crashed,) = [run for run in find_runs([tmp_path / "results"]).runs if run.record.status == "crashed"]
    assert "signal 9" in str(crashed.record.status_reason)
    campaign.look()
    finish(campaign)
    assert ["0 crashed", "0 ok", "1 ok", "2 ok", "3 ok"] == campaign.statuses()
