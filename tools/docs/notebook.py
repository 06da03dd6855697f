"""Runs the documentation's notebook and keeps its outputs: `python -m tools.docs.notebook`. The site shows it.

Its page is made here and not by a plugin of MkDocs': those bring nbconvert along, and their pages load scripts from
elsewhere, which the site does not.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "how-to" / "notebook.ipynb"
PAGE = "how-to/notebook.md"  # of the site
PATIENCE_S = 600  # for one cell
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal, which commands in a cell write to
KEPT = ("text/html", "image/png", "text/plain")  # the first of them that an output has is shown

Notebook = Mapping[str, Any]


def read() -> Notebook:
    """The notebook as it is kept."""
    notebook: Notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return notebook


def executed(notebook: Notebook) -> Notebook:
    """The notebook, run from its beginning in a folder of its own, with its outputs and nothing of this machine.

    Wants the packages of the extra `notebook`. Raises nbclient's error of the first cell that fails.
    """
    import nbformat
    from nbclient import NotebookClient

    document = nbformat.reads(json.dumps(notebook), as_version=4)
    with tempfile.TemporaryDirectory() as scratch:
        client = NotebookClient(document, timeout=PATIENCE_S, resources={"metadata": {"path": scratch}})
        client.execute()
    plain: dict[str, Any] = json.loads(nbformat.writes(document))
    return _clean(plain)


def _clean(notebook: dict[str, Any]) -> Notebook:
    """Without what differs each time and tells nothing: times of cells, versions of the kernel, libraries' remarks."""
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            cell["outputs"] = [_kept(each) for each in cell["outputs"] if each.get("name") != "stderr"]
    return notebook


def _kept(output: dict[str, Any]) -> dict[str, Any]:
    """An output in the one form that is shown; as text too, for readers that show no HTML."""
    output.pop("transient", None)
    if "data" in output:
        output["metadata"] = {}
        output["data"] = {kind: output["data"][kind] for kind in KEPT if kind in output["data"]}
    return output


def page(notebook: Notebook) -> str:
    """The notebook as Markdown: texts as they are, code and printed text in fences, tables and charts as HTML."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _parts(cell)) + "\n"


def _parts(cell: Mapping[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        yield from _shown(output)


def _shown(output: Mapping[str, Any]) -> Iterator[str]:
    if "text" in output:
        yield _fenced("".join(output["text"]))
        return
    data = output.get("data", {})
    kind = next((kind for kind in KEPT if kind in data), None)
    said = "".join(data[kind]) if kind is not None else ""
    if kind == "text/html":
        yield _html("\n".join(line for line in said.splitlines() if line.strip()))  # Markdown ends HTML at an empty one
    elif kind == "image/png":
        alt = escape("".join(data.get("text/plain", "chart")))
        content = said.replace("\n", "")
        yield _html(f'<img alt="{alt}" src="data:image/png;base64,{content}">')
    elif said:
        yield _fenced(said)


def _html(content: str) -> str:
    return f'<div class="output">\n{content}\n</div>'


def _fenced(text: str) -> str:
    return f"```text\n{COLOUR.sub('', text).rstrip()}\n```"


def main() -> None:
    """Run it, and keep it with its outputs."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    text = json.dumps(executed(read()), indent=1, ensure_ascii=False)
    NOTEBOOK.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
