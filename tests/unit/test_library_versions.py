"""The versions that kvbench is tested with are written once, and what is older or newer is told in one line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from kvbench import library_versions
from kvbench.library_versions import NEWEST_TRANSFORMERS, OLDEST, release, too_old, untested

ROOT = Path(__file__).parents[2]


class TestTheRange:
    def test_is_the_one_of_the_metadata(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        bounds = dict(re.split("(?=>=)", each, maxsplit=1) for each in project["dependencies"])
        assert {package: f">={oldest}" for package, oldest in OLDEST.items()} == {key: bounds[key] for key in OLDEST}

    def test_ends_with_the_constraints_files_version(self) -> None:
        constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        assert f"transformers=={NEWEST_TRANSFORMERS}" in constraints


class TestAVersion:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("5.24.0", (5, 24, 0)),
            ("5.17", (5, 17, 0)),
            ("2.11.0+cu130", (2, 11, 0)),
            ("6.0.0.dev0", (6, 0, 0)),
            ("5.25.0rc1", (5, 25, 0)),
            ("unknown", (0, 0, 0)),
        ],
    )
    def test_is_compared_by_its_numbers(self, text: str, expected: tuple[int, ...]) -> None:
        assert expected == release(text)

    @pytest.mark.parametrize("installed", ["5.17.0", "5.23.4", "5.24.0", "5.24.0.post1"])
    def test_within_the_range_is_not_told(self, installed: str) -> None:
        assert untested(installed) is None

    @pytest.mark.parametrize("installed", ["5.24.1", "5.25.0", "6.0.0.dev0"])
    def test_beyond_it_is_told(self, installed: str) -> None:
        assert (
            f"transformers {installed} is newer than 5.24.0, the newest that kvbench was tested with;"
            " pip install transformers==5.24.0 if this goes wrong"
        ) == untested(installed)

    def test_before_it_is_refused_with_the_command_that_helps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library_versions, "version", {"torch": "2.11.0", "transformers": "4.57.1"}.__getitem__)
        assert (
            "transformers 4.57.1 is installed, and kvbench needs 5.17 or newer: pip install -U 'transformers>=5.17'"
        ) == too_old()

    def test_of_this_environment_is_within_it(self) -> None:
        assert too_old() is None
