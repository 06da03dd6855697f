"""A run that is stopped or killed loses nothing that was finished, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import psutil
import pytest
from preloaded import Preloaded, PreloadedRun

from kvbench.records.store import (
    BLOCKS,
    CONFIG,
    LOG,
    PROMPTS,
    RECORD,
    STEPS,
    RunFolder,
    find_runs,
    read_blocks,
    read_steps,
)
from kvbench.records.timings import Block
from kvbench.running.supervisor import Supervisor

DEADLINE_S = 60.0  # for what takes a second on an idle machine

# A block sleeps 0.1 s and there are more than anyone waits for.
ENDLESS = (
    "model=scripted",
    "model.virtual_time=false",
    "model.prefill_s=0.005",
    "model.cached_step_s=0.005",
    "model.nocache_step_s=0.005",
    "workload.prompt_tokens=5",
    "workload.new_tokens=5",
    "measure.warmup=0",
    "measure.blocks=100000",
    "report=false",
)


@dataclass
class Started:
    """A run in a process group of its own, as a terminal makes one."""

    process: subprocess.Popen[str] | PreloadedRun
    results: Path

    @property
    def folder(self) -> Path:
        (log,) = self.results.rglob(LOG)
        return log.parent

    def workers(self) -> list[psutil.Process]:
        """The spawned processes, multiprocessing's own tracker included."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def the_worker(self) -> psutil.Process:
        (worker,) = [child for child in self.workers() if "spawn_main" in " ".join(child.cmdline())]
        return worker

    def interrupt(self) -> None:
        """Ctrl-C: the terminal tells the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out, err

    def record(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / RECORD).read_text())
        return data


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.005)


def gone(process: psutil.Process) -> bool:
    """A zombie is gone too: it is its new parent's to bury."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def in_first_block(results: Path) -> Callable[[], bool]:
    return lambda: any("\n" in blocks.read_text() for blocks in results.rglob(BLOCKS))


@pytest.fixture
def start(tmp_path: Path, preloaded: Preloaded) -> Iterator[Callable[..., Started]]:
    """Starts a run and waits until its first block is on the disk, or for the condition given.

    `fresh` runs begin with Python's own start, as from a shell; the others have imported kvbench when they begin.
    """
    runs: list[Started] = []

    def begin(
        *arguments: str,
        until: Callable[[Path], Callable[[], bool]] = in_first_block,
        ctrl_c: signal.Handlers = signal.SIG_DFL,
        fresh: bool = False,
        **env: str,
    ) -> Started:
        process: subprocess.Popen[str] | PreloadedRun
        if fresh:
            process = subprocess.Popen(
                [sys.executable, "-m", "kvbench", *arguments],
                cwd=tmp_path,
                env={**os.environ, **env},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                # Not the suite's own: a script that starts that in the background has it ignored, and so its children.
                preexec_fn=partial(signal.signal, signal.SIGINT, ctrl_c),
            )
        else:
            outputs = tmp_path / "outputs"
            process = preloaded.start(*arguments, cwd=tmp_path, outputs=outputs, ctrl_c=ctrl_c, **env)
        runs.append(Started(process, tmp_path / "results"))
        wait_for(until(runs[-1].results))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()


class TestCtrlC:
    def test_leaves_a_whole_record_of_the_finished_blocks_and_no_process(self, start: Callable[..., Started]) -> None:
        run = start(*ENDLESS, fresh=True)
        processes = run.workers()
        run.interrupt()
        code, out, err = run.end()
        assert (130, "") == (code, err)
        assert "INTERRUPTED" in out
        record = run.record()
        blocks = read_blocks(run.folder)
        assert "interrupted" == record["status"]
        assert "Ctrl-C" in record["status_reason"]
        assert {len(blocks)} == {arm["itl_s"]["n"] for arm in record["arms"]}
        assert len(blocks) >= 1
        assert len(blocks) == len((run.folder / BLOCKS).read_text().splitlines())
        table = read_steps(run.folder)
        assert table is not None
        assert len(blocks) * 2 * 4 == table.num_rows  # two arms, four steps
        wait_for(lambda: all(map(gone, processes)))

    def test_without_a_worker_does_the_same_and_gives_no_verdict_on_what_was_cut_short(
        self, start: Callable[..., Started]
    ) -> None:
        run = start(*ENDLESS, "launch=inline")
        run.interrupt()
        assert (130, "") == run.end()[::2]
        record = run.record()
        comparison = record["comparison"]
        assert ("interrupted", len(read_blocks(run.folder))) == (record["status"], comparison["speedup"]["n_blocks"])
        assert "INVALID" == comparison["verdict"]
        assert "interrupted" in comparison["reasons"][0]

    def test_before_the_first_block_leaves_a_record_too(self, start: Callable[..., Started]) -> None:
        slow = ("model.prefill_s=30", *[each for each in ENDLESS if "prefill_s" not in each])
        run = start(*slow, until=lambda results: lambda: any(results.rglob(PROMPTS)))
        run.interrupt()
        assert (130, "") == run.end()[::2]
        assert {RECORD, CONFIG, PROMPTS, LOG} == {path.name for path in run.folder.iterdir()}
        assert "interrupted" == run.record()["status"]

    def test_while_the_worker_starts_leaves_a_record(self, start: Callable[..., Started], tmp_path: Path) -> None:
        begun = worker_that(tmp_path, "time.sleep(30)")
        run = start(*ENDLESS, until=lambda results: begun.exists, PYTHONPATH=before_our_path(tmp_path))
        time.sleep(0.1)  # the parent goes on from creating the process to waiting for it
        run.interrupt()
        assert 130 == run.end()[0]
        assert "interrupted" == run.record()["status"]

    def test_does_not_reach_a_worker_that_is_still_starting(
        self, start: Callable[..., Started], tmp_path: Path
    ) -> None:
        # Ctrl-C is the parent's to handle from the worker's first line on; here only the worker gets it.
        begun = worker_that(tmp_path, "os.kill(os.getpid(), 2); time.sleep(0.1)")
        run = start(
            *ENDLESS, "measure.blocks=5", until=lambda results: begun.exists, PYTHONPATH=before_our_path(tmp_path)
        )
        code, _, err = run.end()
        assert (0, "") == (code, err)

    def test_while_a_block_is_written_counts_only_blocks_on_the_disk(
        self, run_kvbench: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append = RunFolder.append_block

        def interrupted(folder: RunFolder, block: Block) -> None:
            if block.index == 2:
                raise KeyboardInterrupt
            append(folder, block)

        monkeypatch.setattr(RunFolder, "append_block", interrupted)
        assert 130 == run_kvbench(*ENDLESS, "launch=inline")[0]
        (run,) = find_runs([tmp_path / "results"]).runs
        assert len(read_blocks(run.folder)) == run.record.arms[0].itl_s.n

    def test_in_the_moment_when_the_worker_is_created_leaves_a_record(
        self, run_kvbench: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(process: SpawnProcess) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(SpawnProcess, "start", interrupted)
        code, _, err = run_kvbench(*ENDLESS)
        (run,) = find_runs([tmp_path / "results"]).runs
        assert (130, "", "interrupted") == (code, err, run.record.status)

    def test_before_anything_began_shows_no_traceback(
        self, run_kvbench: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(arguments: list[str]) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr("kvbench.commands.run.main", interrupted)
        try:
            code, out, err = run_kvbench(*ENDLESS)
        except KeyboardInterrupt:
            pytest.fail("the interrupt came out of main, which ends in a traceback")
        assert (130, "") == (code, out)
        assert "Traceback" not in err

    def test_is_the_parent_s_to_handle_and_nothing_to_its_worker(self, start: Callable[..., Started]) -> None:
        run = start(*ENDLESS, "measure.blocks=20")
        run.the_worker().send_signal(signal.SIGINT)
        assert (0, "") == run.end()[::2]
        assert 20 == len(read_blocks(run.folder))

    def test_is_ignored_by_a_run_that_was_started_so_as_a_script_s_background_job_is(
        self, start: Callable[..., Started]
    ) -> None:
        run = start(*ENDLESS, "measure.blocks=20", ctrl_c=signal.SIG_IGN)
        run.interrupt()
        assert (0, "") == run.end()[::2]
        assert ("ok", 20) == (run.record()["status"], len(read_blocks(run.folder)))

    def test_ends_a_sweep_with_its_points_so_far(self, start: Callable[..., Started]) -> None:
        run = start("-m", *ENDLESS, "mode=cached,nocache,both")
        run.interrupt()
        assert (130, "") == run.end()[::2]
        assert ["interrupted"] == [each.record.status for each in find_runs([run.results]).runs]


class TestASignalThatAsksTheProgramToEnd:
    @pytest.mark.parametrize(
        ("number", "everyone", "launch"),
        [(signal.SIGTERM, True, "worker"), (signal.SIGHUP, False, "worker"), (signal.SIGTERM, False, "inline")],
    )
    def test_leaves_a_record_as_ctrl_c_does(
        self, start: Callable[..., Started], number: signal.Signals, everyone: bool, launch: str
    ) -> None:
        run = start(*ENDLESS, f"launch={launch}")
        processes = run.workers()
        (os.killpg if everyone else os.kill)(run.process.pid, number)
        assert (130, "") == run.end()[::2]
        record = run.record()
        assert ("interrupted", True) == (record["status"], number.name in record["status_reason"])
        assert len(read_blocks(run.folder)) == record["arms"][0]["itl_s"]["n"] >= 1
        wait_for(lambda: all(map(gone, processes)))

    def test_is_obeyed_by_a_sweep(self, start: Callable[..., Started]) -> None:
        run = start("-m", *ENDLESS, "mode=cached,nocache")
        run.process.terminate()
        assert (130, "") == run.end()[::2]
        assert ["interrupted"] == [each.record.status for each in find_runs([run.results]).runs]


def before_our_path(folder: Path) -> str:
    """What `PYTHONPATH` must be for a folder to be looked into first."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def worker_that(folder: Path, does: str) -> Path:
    """Makes Python run `does` in every spawned worker before its first line; the file that tells that it began."""
    begun = folder / "begun"
    (folder / "sitecustomize.py").write_text(
        "import os, pathlib, sys, time\n"
        "if '--multiprocessing-fork' in sys.orig_argv:\n"
        f"    pathlib.Path({str(begun)!r}).touch()\n"
        f"    {does}\n"
    )
    return begun


class TestAKilledParent:
    def test_leaves_its_blocks_readable_and_its_worker_goes_away(self, start: Callable[..., Started]) -> None:
        run = start(*ENDLESS, fresh=True)
        processes = run.workers()
        assert len(processes) >= 1
        run.process.kill()
        run.process.wait(DEADLINE_S)
        wait_for(lambda: all(map(gone, processes)))
        blocks = read_blocks(run.folder)
        found = find_runs([run.results])
        assert len(blocks) >= 1
        assert list(range(len(blocks))) == [block["index"] for block in blocks]
        assert ((), ()) == (found.runs, found.unreadable)
        assert [run.folder] == [each.path for each in found.unfinished]
        assert f"{len(blocks)} finished blocks" in str(found.unfinished[0])


class TestAKilledWorker:
    def test_is_a_crashed_run_that_names_the_signal_and_keeps_its_blocks(self, start: Callable[..., Started]) -> None:
        run = start(*ENDLESS)
        run.the_worker().kill()
        code, _, err = run.end()
        record = run.record()
        assert (1, "") == (code, err)
        assert "crashed" == record["status"]
        assert "signal 9" in record["status_reason"]
        assert len(read_blocks(run.folder)) == record["arms"][0]["itl_s"]["n"] >= 1
        assert (run.folder / STEPS).exists()

    def test_that_dies_with_its_order_unread_is_a_crashed_run(
        self, start: Callable[..., Started], tmp_path: Path
    ) -> None:
        begun = worker_that(tmp_path, "time.sleep(1); os._exit(9)")  # by then the order lies in its connection
        run = start(*ENDLESS, until=lambda results: begun.exists, PYTHONPATH=before_our_path(tmp_path))
        code, _, err = run.end()
        assert (1, "") == (code, err)
        assert "crashed" == run.record()["status"]
        assert "exit code 9" in run.record()["status_reason"]

    def test_that_is_dead_when_its_order_is_sent_is_a_crashed_run(
        self, run_kvbench: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start_worker = Supervisor._worker

        def dead(supervisor: Supervisor, ranks: int) -> Any:
            process, connection = start_worker(supervisor, ranks)
            process.kill()
            process.join()
            return process, connection

        monkeypatch.setattr(Supervisor, "_worker", dead)
        code, _, err = run_kvbench(*ENDLESS)
        (run,) = find_runs([tmp_path / "results"]).runs
        assert (1, "", "crashed") == (code, err, run.record.status)
