"""A disk that is full or read-only costs one clear line, and no file is left half written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.records.store import BLOCKS, LOG, RECORD, STEPS, find_runs, read_blocks

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.durable
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
        assert 3 <= len(read_blocks(folder)) <= 4  # the one that could not be synced may have arrived
        (run,) = find_runs([folder]).runs
        assert "failed" == run.record.status
        assert f"{BLOCKS}: cannot write (No space left on device)" in str(run.record.status_reason)
        assert "No space left on device" in out
        assert 3 == run.record.arms[0].itl_s.n

    @pytest.mark.parametrize("name", [RECORD, STEPS])
    def test_at_the_end_is_one_line_that_says_where_the_blocks_are(
        self, run_kvbench: Run, tmp_path: Path, fill: Callable[[str, int], None], name: str
    ) -> None:
        fill(name, 0)
        code, _, err = run_kvbench(*POINT)
        folder = the_folder(tmp_path)
        assert (1, 1) == (code, err.count("\n"))
        assert f"{name}: cannot write (No space left on device); 8 finished blocks are in" in err
        assert not (folder / RECORD).exists()
        assert 8 == len(read_blocks(folder))
        (unfinished,) = find_runs([folder]).unfinished
        assert "8 finished blocks" in unfinished.reason

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
