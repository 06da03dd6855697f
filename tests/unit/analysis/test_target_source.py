"""An edited model is another model: the digest of a target changes with its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvbench.analysis.keys import source_digest


@pytest.fixture(autouse=True)
def in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("a = 1\n")
    (tmp_path / "blocks.py").write_text("b = 1\n")
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "deep" / "model.py").write_text("c = 1\n")
    (tmp_path / "pack" / "other.py").write_text("d = 1\n")


@pytest.mark.parametrize(
    ("target", "edited"),
    [("mine:f", "mine.py"), ("mine:f", "blocks.py"), ("pack.deep.model:f", "pack/deep/model.py"),
     ("pack.deep.model:f", "pack/other.py"), ("pack:f", "pack/other.py")],
)  # fmt: skip
def test_an_edit_changes_it(tmp_path: Path, target: str, edited: str) -> None:
    before = source_digest(target)
    assert before == source_digest(target)
    (tmp_path / edited).write_text("x = 2\n")
    assert before != source_digest(target)


def test_a_module_without_a_source_never_counts_as_unchanged() -> None:
    assert source_digest("nowhere_at_all:f") != source_digest("nowhere_at_all:f")
