"""Data walks one way through the house: no module imports, even by a detour, what imports it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import kvbench

PACKAGE = Path(kvbench.__file__).parent
MODULES = {
    ".".join(("kvbench", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in PACKAGE.rglob("*.py")
}
del MODULES["kvbench"]  # the door: it gives `measure` to who asks, and the version to the rooms

# The rooms of the report beside its words, which all of them use, and which other ones each may use.
ROOMS_OF_THE_REPORT = {
    "console": {"console_figures"},
    "console_figures": set(),
    "charts": set(),
    "page": {"charts"},
    "exports": {"charts", "page"},  # a tracker is given the page
}


# What commands the report to be written, or shows what it says, stands to the right of it.
DOORS = ("commands", "display", "measured_run", "progress_line", "testing", "__main__")


def imported(module: str) -> Iterator[str]:
    """The modules of kvbench that this one imports, wherever in its text."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert 0 == node.level, f"{module}: say the whole name"
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield from {whole if whole in MODULES else str(node.module)} & MODULES.keys()
        elif isinstance(node, ast.Import):
            yield from {name.name for name in node.names} & MODULES.keys()


def room(module: str) -> str | None:
    """The room of the report in which a module is: `words` for those in none."""
    _, *way = module.split(".")
    if way[:1] != ["report"]:
        return None
    name = way[1].partition("_")[0] if way[1:] else ""  # the terminal has console and console_figures
    return name if name in ROOMS_OF_THE_REPORT else "words"


def test_no_module_is_imported_by_what_it_imports() -> None:
    # A `CycleError` names the modules that do.
    order = TopologicalSorter({module: set(imported(module)) for module in MODULES}).static_order()
    assert len(MODULES) == len(list(order)) > 100


def test_no_two_modules_below_the_commands_share_a_name() -> None:
    """A command and what it calls may: `commands/watch.py` is a door, and so is each file of that folder."""
    names = [path.name for path in MODULES.values() if path.name != "__init__.py" and path.parent.name != "commands"]
    assert [] == sorted({name for name in names if names.count(name) > 1})


def test_the_report_goes_from_words_to_charts_to_what_is_read() -> None:
    for module in MODULES:
        own = room(module)
        allowed = {"words", own, *ROOMS_OF_THE_REPORT.get(str(own), ())} if own != "words" else {"words"}
        into = {where for where in map(room, imported(module)) if where is not None}
        if own is None:
            outside = module.split(".")[1] in DOORS
            assert outside or not into, f"{module} imports the report"
        else:
            assert into <= allowed, f"{module} imports {sorted(into - allowed)}"
