"""A report over several folders says what changed since the first of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun
from kvbench.report.changes import Changes, Sides
from kvbench.report.page.html import build

from .records import arm, two_arms, write_run


def runs(folder: Path, count: int, cached_s: float, *, key: str = "k", pid: int = 0) -> list[StoredRun]:
    """Runs of so many processes, whose cached arm takes about so long per step."""
    return [
        write_run(
            run_of(f"{folder.name}-{number}", cached_s * (1 + 0.002 * number), key, pid + number), folder / str(number)
        )
        for number in range(count)
    ]


def run_of(run_id: str, cached_s: float, key: str, pid: int) -> RunRecord:
    run = two_arms(arms=[arm("nocache"), arm("cached")], run_id=run_id)
    nocache, cached = run.arms
    rate = cached.decode_tokens_per_s.model_copy(update={"value": 1 / cached_s})
    return run.model_copy(
        update={
            "arms": (nocache, cached.model_copy(update={"decode_tokens_per_s": rate})),
            "keys": run.keys.model_copy(update={"compare_key": key}),
            "environment": {**run.environment, "worker": {"pid": pid, "started_at": run_id}},
        }
    )


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return tmp_path / "baseline"


@pytest.fixture
def after(tmp_path: Path) -> Path:
    return tmp_path / "after"


def changed(folders: list[Path], every: list[StoredRun]) -> list[Changes]:
    sides = Sides(folders)
    for run in every:
        sides.add(run)
    return list(sides.changes())


def test_a_slowdown_is_said_with_its_figures_before_what_stayed(before: Path, after: Path) -> None:
    every = [*runs(before, 5, 0.010), *runs(after, 5, 0.012, pid=9)]
    (found,) = changed([before, after], every)
    assert ("SLOWER", "after against baseline") == (found.word, found.title)
    assert re.fullmatch(
        r"after is slower than baseline: cached \(dynamic\) 0\.83\d× \[0\.8\d+, 0\.8\d+\]\.", found.sentence
    )
    slow, same = found.rows
    assert ("cached (dynamic)", "SLOWER", "5, 5") == (slow.arm, slow.word, slow.processes)
    assert re.fullmatch(r"99\.\d tok/s \[99\.\d+, \d+\.\d+\]", slow.base)
    assert ("nocache", "SAME") == (same.arm, same.word)
    page = page_of(before, after, every)
    assert "<h1>after against baseline</h1>" in page
    assert found.sentence in page.partition('id="lead"')[0]
    assert "base: baseline</th>" in page
    assert '"overview-change-1":' in page


def page_of(before: Path, after: Path, every: list[StoredRun]) -> str:
    output = before.parent / "report.html"
    build(every, output, folders=[before, after])
    return output.read_text(encoding="utf-8")


def test_what_is_faster_is_said_where_nothing_else_changed(before: Path, after: Path) -> None:
    (found,) = changed([before, after], [*runs(before, 5, 0.010), *runs(after, 5, 0.008, pid=9)])
    assert "FASTER" == found.word
    assert found.sentence.startswith("after is faster than baseline: cached (dynamic) 1.2")


def test_few_runs_give_figures_and_no_verdict(before: Path, after: Path) -> None:
    (found,) = changed([before, after], [*runs(before, 1, 0.010), *runs(after, 1, 0.012, pid=9)])
    assert "too few runs" == found.word
    assert "No verdict on after against baseline yet: 1 and 1 processes, a verdict needs 5 a side." in found.sentence
    assert "cached (dynamic) 0.833×" in found.sentence
    assert [None, None] == [row.interval for row in found.rows]


def test_runs_of_other_kinds_are_not_compared(before: Path, after: Path) -> None:
    every = [*runs(before, 5, 0.010), *runs(after, 5, 0.012, key="other", pid=9)]
    (found,) = changed([before, after], every)
    assert ("", ()) == (found.word, found.rows)
    assert "they have no runs of one kind (compare_key)" in found.sentence
    assert "<h1>10 runs of embedded</h1>" in page_of(before, after, every)


def test_one_folder_is_compared_with_nothing(before: Path) -> None:
    assert [] == changed([before], runs(before, 5, 0.010))


def test_older_records_of_a_hub_model_meet_today_s_of_the_same_commit(before: Path, after: Path) -> None:
    old, new = runs(before, 5, 0.001, key="k"), runs(after, 5, 0.001, key="k@abc", pid=9)
    stated = {**(old[0].record.model or {}), "revision": "abc"}
    old = [StoredRun(run.record.model_copy(update={"model": stated}), run.folder) for run in old]
    (found,) = changed([before, after], [*old, *new])
    assert found.rows
