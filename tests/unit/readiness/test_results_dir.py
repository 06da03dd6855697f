"""A results folder that cannot be made is told at once; one that can is not made yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvbench.errors import RecordError
from kvbench.readiness import require_results_dir


def test_with_a_file_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RecordError, match=r"cannot create .* \(Not a directory\); choose one you can write to"):
            require_results_dir(str(folder))


def test_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RecordError, match=r"\(Permission denied\)"):
        require_results_dir(str(tmp_path / "new"))


def test_that_is_fine_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    require_results_dir("a/b/c")
    require_results_dir(".")
    assert [] == list(tmp_path.iterdir())
