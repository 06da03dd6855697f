"""A disk that is full or read-only costs one clear line, and no file is left half written."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.errors import reason_of
from kvbench.records.store import (
    BLOCKS,
    LOG,
    RECORD,
    REPORT,
    STEPS,
    TEMPORARY,
    RunFolder,
    find_runs,
    read_blocks,
)
from kvbench.records.timings import Block

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.durable
FULL = Path("/dev/full")
POINT = ("model=scripted", "workload.prompt_tokens=5", "workload.new_tokens=4", "launch=inline", "report=false")


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """From the given write to a file of that name on, the disk is full."""

    def begin(name: str, after: int) -> None:
        real = os.fsync
        written = {"files": 0}

        def fsync(descriptor: int) -> None:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if name in path:
                written["files"] += 1
                if written["files"] > after:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    return begin


def the_folder(tmp_path: Path) -> Path:
    (log,) = (tmp_path / "results").rglob("stdout.log")
    return log.parent


class TestAFullDisk:
    def test_in_the_middle_of_the_blocks_keeps_those_before(
        self, run_kvbench: Run, tmp_path: Path, fill: Callable[[str, int], None]
    ) -> None:
        fill(BLOCKS, 3)
        code, out, err = run_kvbench(*POINT)
        folder = the_folder(tmp_path)
        assert (1, "") == (code, err)
        assert 3 == len(read_blocks(folder))  # the one that could not be synced was not counted, and is not there
        (run,) = find_runs([folder]).runs
        assert "failed" == run.record.status
        assert f"{BLOCKS}: cannot write (No space left on device)" in str(run.record.status_reason)
        assert "No space left on device" in out
        assert 3 == run.record.arms[0].itl_s.n

    def test_at_the_end_is_one_line_that_says_where_the_blocks_are(
        self, run_kvbench: Run, tmp_path: Path, fill: Callable[[str, int], None]
    ) -> None:
        fill(RECORD, 0)
        code, _, err = run_kvbench(*POINT)
        folder = the_folder(tmp_path)
        assert (1, 1) == (code, err.count("\n"))
        assert f"{RECORD}: cannot write (No space left on device); 8 finished blocks are in" in err
        assert not (folder / RECORD).exists()
        assert 8 == len(read_blocks(folder))
        (unfinished,) = find_runs([folder]).unfinished
        assert "8 finished blocks" in unfinished.reason

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ImportError("no memory")])
    def test_when_the_steps_are_written_costs_the_steps_and_not_the_record(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def refuse(*_: Any) -> None:
            raise error

        monkeypatch.setattr("pyarrow.parquet.write_table", refuse)
        code, _, err = run_kvbench(*POINT)
        folder = the_folder(tmp_path)
        (run,) = find_runs([folder]).runs
        assert (1, 1) == (code, err.count("\n"))
        assert f"{STEPS}: cannot write ({reason_of(error).split('] ')[-1]}); the record and 8 finished blocks" in err
        assert [f"{folder}/{STEPS}"] == [
            str(tmp_path / each.detail.split(": ")[1]) for each in run.record.warnings if each.code == "no_steps"
        ]
        assert ("ok", 8) == (run.record.status, len(read_blocks(folder)))
        assert [] == [path.name for path in folder.iterdir() if path.name.endswith(TEMPORARY)]

    def test_of_the_report_of_a_valid_run_is_no_bad_input(
        self, run_kvbench: Run, tmp_path: Path, fill: Callable[[str, int], None]
    ) -> None:
        fill(REPORT, 0)
        code, _, err = run_kvbench(*POINT, "report=true")
        assert (1, 1) == (code, err.count("\n"))
        assert "the report cannot be written" in err
        assert "ok" == find_runs([the_folder(tmp_path)]).runs[0].record.status

    def test_ends_a_sweep_that_can_go_on_when_there_is_room(
        self, run_kvbench: Run, tmp_path: Path, fill: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sweep = ("-m", *POINT, "model.seed=1,2,3")
        with monkeypatch.context() as patch:
            real = os.fsync
            patch.setattr(os, "fsync", real)
            fill(RECORD, 1)
            code, _, err = run_kvbench(*sweep)
            assert (1, 1) == (code, err.count("\n"))
        monkeypatch.undo()
        os.chdir(tmp_path)
        assert 0 == run_kvbench(*sweep)[0]
        assert [1, 2, 3] == sorted(run.record.config["model"]["seed"] for run in find_runs([tmp_path / "results"]).runs)

    def test_of_the_log_alone_costs_the_log(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Path.open

        def full(path: Path, *arguments: Any, **options: Any) -> Any:
            return real(Path("/dev/full") if path.name == LOG else path, *arguments, **options)

        monkeypatch.setattr(Path, "open", full)
        code, out, err = run_kvbench(*POINT)
        assert (0, "") == (code, err)
        assert "VALID" in out


def test_standard_output_that_takes_nothing_costs_the_run_nothing(
    run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FULL.open("w") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full)
        code, _, err = run_kvbench(*POINT)
    assert (0, 1) == (code, err.count("\n"))
    assert "standard output cannot be written (No space left on device); the run goes on without it" in err
    assert "ok" == find_runs([tmp_path / "results"]).runs[0].record.status


@pytest.mark.parametrize("command", [["--help"], ["--cfg", "job"], ["--version"]])
def test_standard_output_that_takes_nothing_is_one_line_of_every_command(
    run_kvbench: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    with FULL.open("w") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full)
        code, _, err = run_kvbench(*command)
    assert (1, "kvbench: standard output cannot be written (No space left on device)\n") == (code, err)


def test_closed_standard_streams_cost_the_run_nothing(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "kvbench", *POINT, "launch=worker"])
    ended = subprocess.run(["sh", "-c", f"exec {command} <&- >&- 2>&-"], cwd=tmp_path)
    assert 0 == ended.returncode
    assert "ok" == find_runs([tmp_path / "results"]).runs[0].record.status


def test_a_folder_that_disappears_is_one_line(
    run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RunFolder.append_block

    def removed(folder: RunFolder, block: Block) -> None:
        shutil.rmtree(folder.path)
        append(folder, block)

    monkeypatch.setattr(RunFolder, "append_block", removed)
    code, _, err = run_kvbench(*POINT)
    assert (1, 1) == (code, err.count("\n"))
    assert "cannot write (No such file or directory)" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line_before_anything_is_measured(run_kvbench: Run, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for sweep in ((), ("-m",)):
        code, _, err = run_kvbench(*sweep, *POINT, "results_dir=locked/results")
        assert (2, 1) == (code, err.count("\n"))
        assert "cannot create" in err
        assert "choose one you can write to" in err


def test_a_results_dir_that_is_a_file_is_one_line(run_kvbench: Run, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("not a folder")
    for sweep in ((), ("-m",)):
        code, _, err = run_kvbench(*sweep, *POINT)
        assert (2, 1) == (code, err.count("\n"))
        assert "results_dir=results: cannot create" in err
