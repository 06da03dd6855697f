"""What is written survives a crash, and one bad file harms no other."""

from __future__ import annotations

import errno
import json
import os
import resource
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from kvbench.analysis.assemble import refused
from kvbench.errors import RecordError
from kvbench.records import store
from kvbench.records.run_record import RunRecord
from kvbench.records.store import (
    BLOCKS,
    PROMPTS,
    RECORD,
    STEPS,
    TEMPORARY,
    RunFolder,
    find_runs,
    finished_runs,
    read_blocks,
    read_record,
    read_steps,
    remove_temporary_files,
    replace_file,
)
from kvbench.records.timings import Block

pytestmark = pytest.mark.durable


def record(run_id: str = "r1", created_at: str = "2026-01-01T00:00:00+00:00") -> RunRecord:
    """The smallest whole record there is."""
    return refused(["mode=nosuch"], "mode=nosuch: not known", run_id=run_id, created_at=created_at)


def stored(results: Path, run_id: str, created_at: str = "2026-01-01T00:00:00+00:00") -> Path:
    folder = RunFolder(results, "model", run_id)
    folder.write_record(record(run_id, created_at))
    return folder.path


def block(index: int) -> Block:
    return Block(index, (0,), "2026-01-01T00:00:00+00:00", 0.5, ())


class TestARunFolder:
    def test_is_refused_when_it_is_there_already(self, tmp_path: Path) -> None:
        RunFolder(tmp_path, "model", "r1")
        with pytest.raises(RecordError, match="exists already: remove it or choose another results_dir"):
            RunFolder(tmp_path, "model", "r1")

    def test_that_is_discarded_takes_the_empty_folders_of_its_own_with_it(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "results", "model", "r1")
        folder.write_config("a: 1\n")
        folder.discard()
        assert [] == list(tmp_path.iterdir())

    def test_that_is_discarded_leaves_its_neighbours(self, tmp_path: Path) -> None:
        neighbour = stored(tmp_path / "results", "r0")
        RunFolder(tmp_path / "results", "model", "r1").discard()
        assert [neighbour] == list((tmp_path / "results" / "model").iterdir())

    def test_keeps_prompts_of_any_script_one_a_line(self, tmp_path: Path) -> None:
        prompts = [{"text": "第一\n\u2028 line 😀", "token_ids": [1, 2]}, {"text": "", "token_ids": [3]}]
        folder = RunFolder(tmp_path, "model", "r1")
        folder.write_prompts(prompts)
        kept = (folder.path / PROMPTS).read_text(encoding="utf-8").rstrip("\n").split("\n")
        assert prompts == [json.loads(line) for line in kept]

    def test_refuses_a_block_that_is_not_finite(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path, "model", "r1")
        with pytest.raises(ValueError, match="Out of range float"):
            folder.append_block(Block(0, (0,), "", float("nan"), ()))
        assert () == read_blocks(folder.path)


class TestAFile:
    def test_is_old_or_new_but_never_a_part(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = stored(tmp_path, "r1") / RECORD
        before = path.read_bytes()

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RecordError, match=r"run\.json: cannot write \(No space left on device\)"):
            store.replace_file(path, b"{")
        assert before == path.read_bytes()

    def test_is_synced_before_it_is_renamed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[str] = []
        fsync, rename = os.fsync, Path.replace

        def synced(descriptor: int) -> None:
            done.append("sync")
            fsync(descriptor)

        def renamed(path: Path, target: Path) -> Path:
            done.append("rename")
            return rename(path, target)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "replace", renamed)
        store.replace_file(tmp_path / "x", b"content")
        assert ["sync", "rename", "sync"] == done  # the second one is the folder's
        assert ["x"] == [path.name for path in tmp_path.iterdir()]

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
    def test_that_cannot_be_finished_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        def refuse(_descriptor: int) -> None:
            raise error

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises((RecordError, KeyboardInterrupt)):
            replace_file(tmp_path / RECORD, b"new")
        assert [] == list(tmp_path.iterdir())

    def test_that_was_killed_while_it_was_written_is_swept_and_one_that_is_written_now_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = RunFolder(tmp_path, "model", "r1").path
        left, others = folder / f".{STEPS}{TEMPORARY}", folder / ".notes.tmp"
        left.touch()
        others.touch()
        replaced = Path.replace

        def meanwhile(temporary: Path, target: Path) -> Path:
            remove_temporary_files(tmp_path)  # as another process does that starts now
            return replaced(temporary, target)

        monkeypatch.setattr(Path, "replace", meanwhile)
        replace_file(folder / RECORD, b"new")
        assert {RECORD, others.name} == {path.name for path in folder.iterdir()}

    def test_in_a_folder_that_has_gone_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match=r"gone/x: cannot write \(No such file or directory\)"):
            store.replace_file(tmp_path / "gone" / "x", b"")


class TestBlocks:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = RunFolder(tmp_path, "model", "r1")
        for index in range(3):
            folder.append_block(block(index))
        return folder.path

    def test_come_back_in_order(self, folder: Path) -> None:
        assert [0, 1, 2] == [each["index"] for each in read_blocks(folder)]

    def test_are_on_the_disk_one_by_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        folder = RunFolder(tmp_path, "model", "r2")
        for index in range(3):
            folder.append_block(block(index))
            assert index + 2 == len(synced)  # the folder once, so that the file is found

    def test_that_a_nearly_full_disk_takes_a_part_of_are_refused_and_taken_back(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path, "model", "r1")
        kept: list[int] = []
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))  # the last write before it is a short one
        try:
            for index in range(100):
                folder.append_block(block(index))
                kept.append(index)
        except RecordError as error:
            refusal = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert f"{BLOCKS}: cannot write (File too large)" in refusal
        folder.append_block(block(99))  # somebody has made room
        assert [*kept, 99] == [each["index"] for each in read_blocks(folder.path)]
        assert len(kept) > 3

    @pytest.mark.parametrize("cut", [1, 2, 20])
    def test_cut_off_by_a_crash_lose_only_the_last(self, folder: Path, cut: int) -> None:
        path = folder / BLOCKS
        path.write_bytes(path.read_bytes()[: -1 - cut])
        assert [0, 1] == [each["index"] for each in read_blocks(folder)]

    def test_with_rubbish_behind_them_are_read_up_to_it(self, folder: Path) -> None:
        with (folder / BLOCKS).open("ab") as file:
            file.write(b"\x00\xff\x00\n")
        assert 3 == len(read_blocks(folder))

    def test_of_a_run_without_any_are_none(self, tmp_path: Path) -> None:
        assert () == read_blocks(tmp_path)


class TestARecord:
    def test_comes_back_equal(self, tmp_path: Path) -> None:
        assert record("r1") == read_record(stored(tmp_path, "r1") / RECORD)

    def test_of_another_version_is_refused_with_both_numbers(self, tmp_path: Path) -> None:
        path = tmp_path / RECORD
        path.write_text(json.dumps({**json.loads(record().model_dump_json()), "schema_version": 2}))
        with pytest.raises(RecordError, match="schema_version 2 is unknown to this kvbench, which reads 1"):
            read_record(path)

    def test_with_a_wrong_field_names_the_field(self, tmp_path: Path) -> None:
        path = tmp_path / RECORD
        path.write_text(json.dumps({**json.loads(record().model_dump_json()), "keys": {"compare_key": 3}}))
        with pytest.raises(RecordError, match="field keys/compare_key"):
            read_record(path)


class TestFindingRuns:
    def test_goes_down_any_depth_and_sorts_by_time(self, tmp_path: Path) -> None:
        late = stored(tmp_path / "a" / "b" / "c", "late", "2026-01-02T00:00:00+00:00")
        early = stored(tmp_path / "z", "early", "2026-01-01T00:00:00+00:00")
        assert [early, late] == [run.folder for run in find_runs([tmp_path]).runs]

    def test_gives_a_run_once_however_often_it_is_named(self, tmp_path: Path) -> None:
        folder = stored(tmp_path, "r1")
        assert 1 == len(find_runs([tmp_path, folder, folder / RECORD, tmp_path / "model" / ".." / "model"]).runs)

    def test_gives_an_unfinished_run_once_too(self, tmp_path: Path) -> None:
        RunFolder(tmp_path, "model", "r1").append_block(block(0))
        assert 1 == len(find_runs([tmp_path, tmp_path / "model"]).unfinished)

    def test_takes_the_file_itself(self, tmp_path: Path) -> None:
        folder = stored(tmp_path, "r1")
        assert [folder] == [run.folder for run in find_runs([folder / RECORD]).runs]

    def test_sets_broken_and_unfinished_runs_apart(self, tmp_path: Path) -> None:
        good, bad = stored(tmp_path, "good"), stored(tmp_path, "bad")
        (bad / RECORD).write_text("{")
        RunFolder(tmp_path, "model", "killed").append_block(block(0))
        RunFolder(tmp_path, "model", "nothing-yet")
        found = find_runs([tmp_path])
        assert [good] == [run.folder for run in found.runs]
        assert [bad / RECORD] == [each.path for each in found.unreadable]
        assert ["interrupted before its record; 1 finished blocks"] == [each.reason for each in found.unfinished]

    def test_for_a_sweep_started_again_is_refused_where_a_record_is_there_and_not_given(self, tmp_path: Path) -> None:
        folder = stored(tmp_path, "r1")
        (folder / RECORD).unlink()
        (folder / RECORD).mkdir()  # what root cannot read either
        with pytest.raises(RecordError, match=r"cannot read .* resume=false measures every point again"):
            finished_runs(tmp_path)

    def test_for_a_sweep_started_again_is_refused_where_a_folder_is_not_listed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, scandir = stored(tmp_path, "r1"), os.scandir

        def failing(path: Any) -> Any:
            if Path(path) == folder:
                raise OSError(errno.EIO, "Input/output error", str(path))
            return scandir(path)

        with monkeypatch.context() as patched:
            patched.setattr(os, "scandir", failing)
            with pytest.raises(RecordError, match=r"r1: cannot read .* resume=false measures every point again"):
                finished_runs(tmp_path)

    def test_of_a_missing_path_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match="nowhere: no such file or folder"):
            find_runs([tmp_path / "nowhere"])


class TestTheTableOfSteps:
    def test_comes_back_equal(self, tmp_path: Path) -> None:
        whole = {"arm": [0, 0], "step": [1, 2], "context_length": [5, 6]}
        table = pyarrow.table(
            {name: pyarrow.array(values, pyarrow.int32()) for name, values in whole.items()} | {"latency_s": [0.1, 0.2]}
        )
        folder = RunFolder(tmp_path, "model", "r1")
        folder.write_steps(table)
        assert table == read_steps(folder.path)
        assert [STEPS] == [path.name for path in folder.path.iterdir()]

    def test_of_a_run_without_one_is_none(self, tmp_path: Path) -> None:
        assert read_steps(tmp_path) is None

    def test_that_is_broken_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        (tmp_path / STEPS).write_bytes(b"PAR1 not really")
        with pytest.raises(RecordError, match=r"steps\.parquet: cannot read"):
            read_steps(tmp_path)
