"""Writes the reference pages that follow from the code: `python -m tools.docs.reference`. A test finds stale ones."""

from __future__ import annotations

import argparse
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from kvbench import errors, own_model
from kvbench.capabilities import (
    ATTENTIONS,
    CACHES,
    COMPILE_MODES,
    ENGINES,
    HABITS,
    MODE_ARMS,
    MODES,
    NO_CACHE,
    QUANTIZATIONS,
)
from kvbench.commands import SUBCOMMANDS
from kvbench.config.conditions import SCRIPTED
from kvbench.config.conf_files import conf_folder
from kvbench.config.schema import Config
from kvbench.measured_run import MeasuredRun
from kvbench.options import settings
from kvbench.python_api import measure
from kvbench.records.run_record import record_schema
from kvbench.report.exports.columns import VIEW_MEANINGS, VIEWS
from kvbench.report.exports.sql import TYPES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
NOTE = "<!-- Written by `python -m tools.docs.reference`; change the code, not this page. -->"


def pages() -> dict[str, str]:
    """Every page by its file name."""
    made = {"keys.md": _keys, "commands.md": _commands, "record.md": _record, "python.md": _python, "views.md": _views}
    return {name: "\n".join((*page(), "")) for name, page in made.items()}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _keys() -> Iterator[str]:
    yield from ("# Keys", "", NOTE, "")
    yield "A run is `python -m kvbench KEY=VALUE …`."
    yield "A key that would do nothing beside the others is refused, with the reason."
    own = [row for row in settings(Config()) if row[2]["effective"] is not SCRIPTED]
    for group, members in groupby(own, key=lambda row: row[0].rpartition(".")[0]):
        rows = list(members)
        yield from ("", f"## `{group}`" if group else f"## {_top(own, rows)}")
        yield from _table(("key", "default", "values", "meaning"), map(_key, rows))
    yield from ("## What the words stand for",)
    for title, words in _words().items():
        yield from ("", f"### `{title}`")
        yield from _table(("value", "meaning"), ((f"`{name}`", text) for name, text in words.items()))
    yield from ("## Ready files", "", "A group's file sets several keys at once, as in `experiment=scaling`.")
    for folder in sorted(each for each in conf_folder().iterdir() if each.is_dir()):
        files = sorted(folder.glob("*.yaml"))
        yield from _table((f"`{folder.name}=`", "what it sets"), ((f"`{each.stem}`", _comment(each)) for each in files))
    yield from ("## The scripted model", "", "It tests the instrument: a model whose times are known.")
    scripted = (row for row in settings(Config()) if row[2]["effective"] is SCRIPTED)
    yield from _table(("key", "default", "values", "meaning"), map(_key, scripted))


def _top(own: Sequence[tuple[str, Any, Any]], rows: Sequence[tuple[str, Any, Any]]) -> str:
    return "The arms" if rows[0][0] == next(key for key, _, _ in own if "." not in key) else "The run"


def _key(row: tuple[str, Any, Mapping[str, Any]]) -> tuple[str, str, str, str]:
    key, default, about = row
    return f"`{key}`", "" if default is None else f"`{_written(default)}`", _values(about), about["help"]


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(about: Mapping[str, Any]) -> str:
    if about["choices"]:
        return ", ".join(f"`{_written(each)}`" for each in about["choices"])
    bounds = ((about["minimum"], "at least "), (about["above"], "above "), (about["maximum"], "at most "))
    return ", ".join(f"{word}{_number(value)}" for value, word in bounds if value is not None)


def _number(value: float) -> str:
    """Digits, but a power of two where there would be too many."""
    if value > 2**62:
        return f"2^{int(value).bit_length()} − 1"
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def _words() -> dict[str, dict[str, str]]:
    both = {name: f"runs {', '.join(arms)}" for name, arms in MODE_ARMS.items()}
    return {
        "mode": {
            "both": both["both"],
            **{each.name: "; ".join((each.summary, *filter(None, [both.get(each.name)]))) for each in MODES.values()},
        },
        "cache": {each.name: each.summary for each in CACHES.values() if each.name != NO_CACHE},
        "engine": {each.name: each.summary for each in ENGINES.values()},
        "compile_mode": COMPILE_MODES,
        "attention": ATTENTIONS,
        "habit": {each.name: each.summary for each in HABITS.values()},
        "model.quantization": {each.name: each.summary for each in QUANTIZATIONS.values()},
    }


def _comment(file: Path) -> str:
    """What a ready file says of itself: the comment that it begins with."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    said = []
    for line in lines:
        if not line.startswith("#"):
            break
        said.append(line.removeprefix("#").strip())
    return " ".join(said)


def _commands() -> Iterator[str]:
    yield from ("# Commands", "", NOTE, "")
    yield "`python -m kvbench` and `kvbench` are the same. Without a command, it measures: see [keys](keys.md)."
    yield from _table(
        ("command", "what it does"), ((f"[`{name}`](#{name})", text) for name, text in SUBCOMMANDS.items())
    )
    yield from ("## Measuring", "", "`python -m kvbench [options] [KEY=VALUE …]`")
    yield from _table(("option", "meaning"), _RUN_OPTIONS)
    for name in SUBCOMMANDS:
        if name == "help":  # reads words, and has no options
            yield from (
                "## help",
                "",
                "`python -m kvbench help TOPIC`: a key, a group or a choice; `help all`: every key.",
                "",
            )
            continue
        parser = importlib.import_module(f"kvbench.commands.{name}")._parser()
        yield from (f"## {name}", "", *(str(parser.description).splitlines() if parser.description else ()))
        rows = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
        yield from _table(("argument", "meaning"), map(_argument, rows))
    yield from ("All [exit codes](exit-codes.md).",)


_RUN_OPTIONS = (
    ("`-m`, `--multirun`", "sweep over `KEY=A,B,C`"),
    ("`--config-dir DIR`", "a folder of your own YAML files, searched before kvbench's"),
    ("`--config-path DIR`", "repeat a run from the config.yaml in its folder; `last`: the newest run in `results/`"),
    ("`--config-name NAME`", "another file in that folder"),
    ("`--cfg job`", "print the configuration and measure nothing; with `-m` that of every point"),
    ("`--help`, `--version`", "a first page, with `help KEY` for one key; the version"),
    ("`-sc install=bash`", "print the shell completion; also `zsh`, `fish`, and `uninstall=…`"),
)


def _argument(action: argparse.Action) -> tuple[str, str]:
    metavar = str(action.metavar or (action.dest.upper() if action.nargs != 0 else ""))
    values = f" {', '.join(map(str, action.choices))}" if action.choices else metavar and f" {metavar}"
    names = ", ".join(f"`{name}{values}`" for name in action.option_strings) or f"`{metavar}`"
    return names, (action.help or "") % vars(action)


def _record() -> Iterator[str]:
    schema = record_schema()
    yield from ("# Fields of the record", "", NOTE, "")
    yield "`run.json` of a run folder, by its JSON Schema (`python -m kvbench export --schema`)."
    yield "Where a field is null, `null_reasons` says why."
    yield from ("", "## The run", *_fields(schema["properties"]))
    for name, part in sorted(schema["$defs"].items()):
        described = str(part.get("description", "")).splitlines()
        yield from (f"## {name}", "", *described, *_fields(part.get("properties", {})))


def _fields(fields: Mapping[str, Any]) -> Iterator[str]:
    rows = (
        (f"`{name}`", _type(field), _unit(field), str(field.get("better", "")).replace("none", ""), _meaning(field))
        for name, field in fields.items()
    )
    return _table(("field", "type", "unit", "better", "meaning"), rows)


def _type(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}" if "items" in field else "list"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"mapping to {_type(inner)}" if isinstance(inner, dict) and inner else "mapping"
    return str(field.get("type", "anything"))


def _unit(field: Mapping[str, Any]) -> str:
    unit = str(field.get("unit", ""))
    return "" if unit == "1" else unit


def _meaning(field: Mapping[str, Any]) -> str:
    title, text = str(field.get("title", "")), " ".join(str(field.get("description", "")).split())
    return f"{title}: {text}" if text and "unit" in field else text


def _views() -> Iterator[str]:
    yield from ("# Views and columns", "", NOTE, "")
    yield "The columns of `kvbench query`; those of `arms` are also what `export` writes as csv and parquet."
    yield "How they are used: [results as data](../how-to/results-as-data.md)."
    for view, columns in VIEWS.items():
        yield from ("", f"## {view}", "", VIEW_MEANINGS[view])
        rows = ((f"`{name}`", TYPES[each.kind], each.unit, each.meaning) for name, each in columns.items())
        yield from _table(("column", "type", "unit", "meaning"), rows)


def _python() -> Iterator[str]:
    yield from ("# Python", "", NOTE, "")
    yield from ("How it is used: [from Python](../how-to/python.md).", "", "## `kvbench.measure`", "")
    yield from ("```text", *_signature(), "```", "", *_text(measure), "")
    yield from ("## The result", "", "`kvbench.measured_run.MeasuredRun`", "", *_text(MeasuredRun), "")
    for method, function in vars(MeasuredRun).items():
        own = inspect.isfunction(function) and function.__module__ == MeasuredRun.__module__
        if own and not method.startswith("_"):
            signature = str(inspect.signature(function)).replace("(self, ", "(").replace("'", "")
            yield from (f"### `{method}`", "", "```text", f"{method}{signature}", "```", "", *_text(function), "")
    yield from ("## A model of your own", "", "`kvbench.own_model`", "", *_text(own_model), "")
    for name, part in vars(own_model).items():
        if inspect.isclass(part) and part.__module__ == own_model.__name__:
            yield from (f"### `{name}`", "", *_text(part), "")
            for method, function in vars(part).items():
                code = function.fget if isinstance(function, property) else function
                if inspect.isfunction(code) and code.__doc__ and code.__module__ == own_model.__name__:
                    yield from (f"- `{method}`: {' '.join(inspect.getdoc(code).split())}",)  # type: ignore[union-attr]
            yield ""
    yield from ("## Errors", "", "`kvbench.errors`", "", "```text", *str(errors.__doc__).strip().splitlines(), "```")


def _signature() -> Iterator[str]:
    signature = inspect.signature(measure)
    keyword_only = False
    yield "kvbench.measure("
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            yield "    *,"
        yield f"    {parameter},".replace(str(parameter.annotation).join("''"), str(parameter.annotation))
    yield f") -> {signature.return_annotation}"


def _text(part: Any) -> list[str]:
    return (inspect.getdoc(part) or "").splitlines()


def main() -> None:
    """Write them all."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
