"""The notebook of the documentation was run as it stands, its page shows what came out, and it runs now."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tools.docs import notebook
from tools.docs.reference import ROOT

KEPT = notebook.read()
CODE = [cell for cell in KEPT["cells"] if cell["cell_type"] == "code"]


def said(cell: Any) -> str:
    return "".join(cell["source"])


def kinds(cells: list[Any]) -> list[list[str]]:
    """Of each cell what its outputs are, without what they hold."""
    return [[each.get("name") or "/".join(each["data"]) for each in cell["outputs"]] for cell in cells]


class TestAsItIsKept:
    def test_every_cell_was_run_from_the_first_to_the_last_without_an_error(self) -> None:
        assert list(range(1, len(CODE) + 1)) == [cell["execution_count"] for cell in CODE]
        assert not [each for cell in CODE for each in cell["outputs"] if each["output_type"] == "error"]

    def test_shows_what_it_is_about(self) -> None:
        code = "\n".join(map(said, CODE))
        for used in ("kvbench.measure(", ".to_pandas(", 'per="step"', ".save(", ".report(", "kvbench.watch("):
            assert used in code
        shown = json.dumps([cell["outputs"] for cell in CODE])
        for expected in ("kvbench-run", "kvbench-watch", "image/png", "kvbench measured for"):
            assert expected in shown

    def test_holds_nothing_of_the_machine_that_ran_it(self) -> None:
        text = notebook.NOTEBOOK.read_text(encoding="utf-8")
        assert not re.search(r"/tmp/|/home/|/root/|site-packages|0x[0-9a-f]{6}", text)
        assert len(text) < 200_000

    def test_is_a_page_that_loads_nothing(self) -> None:
        page = notebook.page(KEPT)
        assert len(CODE) == page.count("```python")
        assert not re.search(r"<script|<link|src=\"(?!data:)|\x1b", page)
        for block in re.findall(r"<div class=\"output\">.*?\n\n", page, re.DOTALL):
            assert block.endswith("</div>\n\n")  # none is cut by an empty line of its own

    def test_every_link_leads_somewhere(self) -> None:
        for cell in KEPT["cells"]:
            for path in re.findall(r"\]\(([^)#:]+)", said(cell)) if cell["cell_type"] == "markdown" else ():
                assert (notebook.NOTEBOOK.parent / path).is_file(), path


@pytest.mark.slow
def test_it_runs_and_gives_the_same_kinds_of_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("nbclient", "ipykernel", "pandas", "matplotlib"):
        pytest.importorskip(package, reason="the notebook wants the extra: pip install 'kvbench[notebook]'")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))))
    monkeypatch.setenv("COLUMNS", "80")
    again = notebook.executed(KEPT)
    assert kinds(CODE) == kinds([cell for cell in again["cells"] if cell["cell_type"] == "code"])


def test_its_file_is_where_the_pages_lead_to() -> None:
    assert Path("docs/how-to/notebook.ipynb") == notebook.NOTEBOOK.relative_to(ROOT)
