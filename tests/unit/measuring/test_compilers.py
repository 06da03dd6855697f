"""The compiler that is told of is the one that would be called."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvbench.measuring.environment import found_compiler


@pytest.fixture(autouse=True)
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("clang++", "clang", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CXX", "CC"):
        monkeypatch.delenv(variable, raising=False)


def test_is_looked_for_by_the_usual_names() -> None:
    assert ("clang++", "clang") == (found_compiler("cpu"), found_compiler("cuda"))


def test_is_the_one_that_the_environment_names_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "mine")
    assert "mine" == found_compiler("cpu")
    monkeypatch.setenv("CXX", "gone")
    assert found_compiler("cpu") is None
