"""Files that are missing, broken or in the way cost one clear line, and never what is already there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kvbench.errors import RecordError
from kvbench.records.store import BLOCKS, RECORD, RunFolder, find_runs, read_blocks
from kvbench.records.timings import Block

Run = Callable[..., tuple[int, str, str]]

INLINE = (
    "model=scripted",
    "report=false",
    "launch=inline",
    "workload.new_tokens=4",
    "measure.warmup=0",
    "measure.blocks=5",
)

RUN_ID = re.compile(r"scripted.*\d{8}-\d{6}-[0-9a-f]+")  # how `show` begins to show a run

PROMPT_FILES = [
    ("missing.txt", None, "no such file"),
    ("empty.txt", b"", "holds no prompt; write one a line"),
    ("blank.txt", b"\n  \n\t\n", "holds no prompt; write one a line"),
    ("bom.txt", b"\xef\xbb\xbf", "holds no prompt; write one a line"),
    ("latin1.txt", b"good\ncaf\xe9\n", "line 2 is not UTF-8; save the file as UTF-8 text"),
    ("utf16.txt", "text".encode("utf-16"), "line 1 is not UTF-8; save the file as UTF-8 text"),
    ("text.jsonl", b'{"prompt": "a"}\nplain text\n', "line 2 is not JSON"),
    ("other.jsonl", b'{"text": "a"}\n', 'line 1 has no text under the key "prompt"'),
    ("number.jsonl", b'{"prompt": 3}\n', 'line 1 has no text under the key "prompt"'),
    ("list.jsonl", b'["a"]\n', 'line 1 has no text under the key "prompt"'),
]


class TestAPromptFile:
    @pytest.mark.parametrize(("name", "content", "complaint"), PROMPT_FILES, ids=lambda value: str(value)[:12])
    def test_that_is_unusable_is_named_with_the_remedy(
        self, run_kvbench: Run, tmp_path: Path, name: str, content: bytes | None, complaint: str
    ) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        code, out, err = run_kvbench(*INLINE, f"workload.prompts={name}")
        assert (2, "") == (code, out)
        assert f"kvbench: workload.prompts={name}: {complaint}\n" == err
        assert not (tmp_path / "results").exists()

    def test_that_is_a_folder_is_named(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        code, _, err = run_kvbench(*INLINE, "workload.prompts=folder")
        assert 2 == code
        assert "kvbench: workload.prompts=folder: cannot read (Is a directory)\n" == err
        assert not (tmp_path / "results").exists()

    def test_does_not_go_with_a_length(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_text("hello\n")
        code, _, err = run_kvbench(*INLINE, "workload.prompts=p.txt", "workload.prompt_tokens=5")
        assert 2 == code
        assert "workload.prompts=p.txt and workload.prompt_tokens=5: give one of them" in err
        assert 1 == err.count("\n")
        assert not (tmp_path / "results").exists()

    def test_of_one_line_is_enough(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_text("hello")
        assert 0 == run_kvbench(*INLINE, "workload.prompts=p.txt")[0]


class TestAResultsFolder:
    @pytest.mark.parametrize(
        ("results_dir", "in_the_way"),
        [("results", "results"), ("results", "results/scripted"), ("a/b/c", "a"), ("a/b/c", "a/b/c/scripted")],
    )
    def test_with_a_file_in_its_way_is_refused_and_the_file_stays(
        self, run_kvbench: Run, tmp_path: Path, results_dir: str, in_the_way: str
    ) -> None:
        obstacle = tmp_path / in_the_way
        obstacle.parent.mkdir(parents=True, exist_ok=True)
        obstacle.write_text("mine")
        before = sorted(tmp_path.rglob("*"))
        code, out, err = run_kvbench(*INLINE, f"results_dir={results_dir}")
        assert (2, "") == (code, out)
        assert err.startswith(f"kvbench: results_dir={results_dir}: cannot create ")
        assert err.endswith("choose one you can write to\n")
        assert 1 == err.count("\n")
        assert "mine" == obstacle.read_text()
        assert before == sorted(tmp_path.rglob("*"))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    def test_that_is_read_only_is_refused(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "results").mkdir(mode=0o555)
        code, _, err = run_kvbench(*INLINE)
        assert 2 == code
        assert "results_dir=results: cannot create" in err
        assert 1 == err.count("\n")

    def test_that_fills_up_midway_keeps_the_finished_blocks(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(RunFolder, "append_block", two_blocks_fit)
        code, _, err = run_kvbench(*INLINE)
        assert code != 0
        assert "Traceback" not in err
        (blocks,) = (tmp_path / "results").rglob(BLOCKS)
        assert 2 == len(read_blocks(blocks.parent))

    def test_that_fills_up_midway_is_a_failed_run(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(RunFolder, "append_block", two_blocks_fit)
        code, _, _ = run_kvbench(*INLINE)
        (run,) = find_runs([tmp_path / "results"]).runs
        assert (1, "failed") == (code, run.record.status)
        assert "No space left on device" in (run.record.status_reason or "")


APPEND = RunFolder.append_block


def two_blocks_fit(folder: RunFolder, block: Block) -> None:
    """In the place of `append_block`, on a disk that is nearly full."""
    if len(read_blocks(folder.path)) == 2:
        raise RecordError(f"{folder.path / BLOCKS}: cannot write (No space left on device)")
    APPEND(folder, block)


def broken(record: str) -> list[tuple[str, bytes, str]]:
    """What a run.json can look like that is none, and what is said of it."""
    whole = json.loads(record)
    return [
        ("empty", b"", "not complete JSON (line 1)"),
        ("truncated", record[: len(record) // 2].encode(), "not complete JSON"),
        ("binary", b"\xff\xfe\x00\x01", "not UTF-8 text"),
        ("other", b'{"a": 1}', "no schema_version"),
        ("list", b"[1, 2]", "no schema_version"),
        ("newer", json.dumps({**whole, "schema_version": 99}).encode(), "schema_version 99 is unknown"),
        ("field", json.dumps({**whole, "surprise": 1}).encode(), "field surprise"),
        ("lacks", json.dumps({key: whole[key] for key in whole if key != "arms"}).encode(), "field arms"),
        ("status", json.dumps({**whole, "status": "fine"}).encode(), "field status"),
        (
            "nan",
            json.dumps({**whole, "arms": [{**whole["arms"][0], "step_lane_cost": float("nan")}]}).encode(),
            "field arms/0/step_lane_cost",
        ),
    ]


NAMES = ["empty", "truncated", "binary", "other", "list", "newer", "field", "lacks", "status", "nan"]


@pytest.fixture
def one_good_run(run_kvbench: Run, tmp_path: Path) -> Path:
    """The folder of results with one whole run in it."""
    assert 0 == run_kvbench(*INLINE, "workload.prompt_tokens=5")[0]
    return tmp_path / "results"


def spoil(results: Path, name: str) -> tuple[Path, str]:
    """Put a broken run beside the good one; its path and the complaint."""
    (good,) = results.rglob(RECORD)
    content, complaint = {each[0]: each[1:] for each in broken(good.read_text())}[name]
    path = results / "scripted" / f"broken-{name}" / RECORD
    path.parent.mkdir()
    path.write_bytes(content)
    return path, complaint


class TestABrokenRecord:
    @pytest.mark.parametrize("name", NAMES)
    def test_is_named_and_skipped(self, one_good_run: Path, run_kvbench: Run, name: str) -> None:
        path, complaint = spoil(one_good_run, name)
        code, out, err = run_kvbench("show", "results")
        assert 2 == code
        assert f"kvbench: skipped {path.relative_to(one_good_run.parent)}: " in err
        assert complaint in err
        assert 1 == err.count("\n")
        assert RUN_ID.search(out)

    @pytest.mark.parametrize("name", ["truncated", "newer"])
    @pytest.mark.parametrize("form", ["csv", "json", "md", "pytest-benchmark"])
    def test_does_not_keep_the_rest_from_export(
        self, one_good_run: Path, run_kvbench: Run, name: str, form: str
    ) -> None:
        alone, expected, _ = run_kvbench("export", "results", "--format", form)
        spoil(one_good_run, name)
        code, out, err = run_kvbench("export", "results", "--format", form)
        assert (0, 2) == (alone, code)
        assert expected == out
        assert 1 == err.count("\n")

    def test_does_not_keep_the_rest_from_a_report(self, one_good_run: Path, run_kvbench: Run) -> None:
        (run,) = find_runs([one_good_run]).runs
        path, _ = spoil(one_good_run, "truncated")
        code, out, err = run_kvbench("report", "results")
        page = (one_good_run / "report.html").read_text()
        assert 2 == code
        assert 1 == err.count("\n")
        assert str(path.relative_to(one_good_run.parent)) in err
        assert run.record.run_id in page
        assert path.parent.name in page
        assert "results/report.html\n" == out

    def test_alone_is_an_error_that_names_it(self, tmp_path: Path, run_kvbench: Run) -> None:
        (tmp_path / RECORD).write_text("{")
        code, out, err = run_kvbench("show", str(tmp_path / RECORD))
        assert (2, "") == (code, out)
        assert str(tmp_path / RECORD) in err
        assert "truncated" in err

    @pytest.mark.parametrize(
        "content", ["[" * 200_000, '{"schema_version": ' + "1" * 5000 + "}"], ids=["deep", "huge number"]
    )
    def test_may_be_as_odd_as_it_likes(self, one_good_run: Path, run_kvbench: Run, content: str) -> None:
        path = one_good_run / "odd" / RECORD
        path.parent.mkdir()
        path.write_text(content)
        code, out, err = run_kvbench("show", "results")
        assert 2 == code
        assert "odd/run.json" in err
        assert RUN_ID.search(out)


class TestAFolderWithoutARecord:
    def test_but_with_blocks_is_named_as_unfinished(self, one_good_run: Path, run_kvbench: Run) -> None:
        (run,) = find_runs([one_good_run]).runs
        (run.folder / RECORD).rename(one_good_run / "kept")
        code, _, err = run_kvbench("show", "results")
        assert 2 == code
        assert f"kvbench: unfinished {run.folder.relative_to(one_good_run.parent)}: " in err
        assert "5 finished blocks" in err

    def test_beside_whole_runs_costs_a_line_and_nothing_else(self, one_good_run: Path, run_kvbench: Run) -> None:
        other = one_good_run / "other"
        other.mkdir()
        (other / BLOCKS).write_text('{"index": 0, "elapsed_s": 1, "visits": []}\n{"ind')
        code, out, err = run_kvbench("show", "results")
        assert 0 == code
        assert "kvbench: unfinished results/other: interrupted before its record; 1 finished blocks\n" == err
        assert RUN_ID.search(out)

    def test_whose_blocks_cannot_be_read_is_named_too(self, one_good_run: Path, run_kvbench: Run) -> None:
        (one_good_run / "odd" / BLOCKS).mkdir(parents=True)
        _, out, err = run_kvbench("show", "results")
        assert "results/odd" in err
        assert RUN_ID.search(out)


class TestAMessage:
    @pytest.mark.parametrize("arguments", [["show"], ["report"], ["export", "--format", "csv"], []])
    def test_stays_one_line_without_terminal_escapes_whatever_the_path(
        self, run_kvbench: Run, tmp_path: Path, arguments: list[str]
    ) -> None:
        code, _, err = run_kvbench(*arguments, "no\x1b[31msuch")
        assert 2 == code
        assert "\x1b" not in err
        assert 1 == err.count("\n")
