"""The overview's table as compact data: the page draws, sorts and filters it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kvbench.records.part import Estimate, Speedup
from kvbench.report.names import format_estimate
from kvbench.report.overview import Row, Summary
from kvbench.report.sentences import output_word, say, word
from kvbench.text import UNKNOWN, Unit, format_value

Number = tuple[float | None, str]  # to sort by, to show


class Entry(NamedTuple):
    """One row of the table together with its run."""

    run: Summary
    row: Row


@dataclass(frozen=True)
class Column:
    """One column. Text columns read a string; number columns what to sort by and what to show."""

    key: str
    read: Callable[[Entry], str | Number]
    numeric: bool = False
    filtered: bool = False
    always: bool = False  # even where it is the same in every row

    @property
    def title(self) -> str:
        """What stands above it."""
        return say(f"table.{self.key}")


def _size(index: int) -> Callable[[Entry], Number]:
    def read(each: Entry) -> Number:
        aspects = each.run.aspects
        return each.run.sizes[index], (aspects.prompt, aspects.new, aspects.batch)[index]

    return read


def _estimate(figure: Estimate | Speedup | None, unit: Unit) -> Number:
    return (None, "") if figure is None else (figure.value, format_estimate(figure, unit))


def _bytes(value: int | None) -> Number:
    return value, "" if value is None else format_value(value, "bytes")


COLUMNS = (
    Column("speedup", lambda each: _estimate(each.row.speedup, "times"), numeric=True, always=True),
    Column("verdict", lambda each: word(each.row.verdict), filtered=True),
    Column("agreement", lambda each: output_word(each.row.agreement) if each.row.agreement else ""),
    Column("arm", lambda each: each.row.arm),
    Column("side", lambda each: each.run.side, filtered=True),
    Column("baseline", lambda each: each.row.baseline),
    Column("prompt", _size(0), numeric=True, filtered=True),
    Column("new", _size(1), numeric=True, filtered=True),
    Column("batch", _size(2), numeric=True, filtered=True),
    Column("model", lambda each: each.run.model, filtered=True),
    Column("device", lambda each: each.run.aspects.device, filtered=True),
    Column("mode", lambda each: each.row.mode, filtered=True),
    Column("cache", lambda each: each.row.cache, filtered=True),
    Column("engine", lambda each: each.row.engine, filtered=True),
    Column("end_to_end", lambda each: _estimate(each.row.end_to_end, "times"), numeric=True),
    Column("rate", lambda each: _estimate(each.row.rate, "tokens/s"), numeric=True),
    Column("baseline_rate", lambda each: _estimate(each.row.baseline_rate, "tokens/s"), numeric=True),
    Column("memory", lambda each: _bytes(each.row.extra_memory_bytes), numeric=True),
    Column("status", lambda each: word(each.run.word), filtered=True, always=True),
    Column("begun", lambda each: each.run.created_at[:19].replace("T", " ")),
    Column("note", lambda each: each.row.note),
)
# The arm's name says these; they are there to be filtered by.
FILTERS_ONLY = ("mode", "cache", "engine")


@dataclass(frozen=True)
class Table:
    """What varies as data for the page; `same` is what all rows share, as names and values."""

    data: Mapping[str, Any]
    same: tuple[tuple[str, str], ...]
    filters: tuple[Column, ...]


def short_names(runs: Sequence[Summary]) -> tuple[str, ...]:
    """What a run is called in the table, whose columns tell the rest: its number, and a name that no column has."""
    named = len({run.aspects.name for run in runs}) > 1
    return tuple(
        " ".join(filter(None, (f"#{number}", run.aspects.name if named and run.aspects.name != run.model else "")))
        for number, run in enumerate(runs, start=1)
    )


def overview_table(
    runs: Sequence[Summary], labels: Sequence[str], anchors: Mapping[int, str], folders: Sequence[str]
) -> Table:
    """One row per candidate of each run. `anchors` leads from a run to its section; `folders` say where runs lie.

    Text is listed once per column and told by its place there; a number comes with what is shown of it.
    """
    entries = [Entry(run, row) for run in runs for row in run.rows]
    columns, filters, same = [], [], []
    for column in COLUMNS:
        cells = [column.read(each) for each in entries]
        distinct = dict.fromkeys(cells)
        if len(distinct) < 2 and not column.always:
            only = next(iter(distinct), "")
            shown = only if isinstance(only, str) else only[1]
            if shown not in ("", UNKNOWN):
                same.append((column.title, shown))
            continue
        if column.filtered and len(distinct) > 1:
            filters.append(column)
        columns.append(_column(column, cells))
    run_of = [number for number, run in enumerate(runs) for _ in run.rows]
    data = {
        "columns": columns,
        "runs": [[label, anchors.get(number, ""), folders[number]] for number, label in enumerate(labels)],
        "run": run_of,
    }
    return Table(data, tuple(same), tuple(filters))


def _column(column: Column, cells: Sequence[str | Number]) -> dict[str, Any]:
    described = {
        "key": column.key,
        "title": column.title,
        "hidden": column.key in FILTERS_ONLY,
        "filtered": column.filtered,
    }
    texts = [cell if isinstance(cell, str) else cell[1] for cell in cells]
    listed = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    described |= {"texts": list(listed), "cells": [listed[text] for text in texts]}
    if column.numeric:
        described["numbers"] = list(_numbers(cells, len(listed), [listed[text] for text in texts]))
    return described


def _numbers(cells: Sequence[str | Number], count: int, places: Sequence[int]) -> Iterator[float | None]:
    """What each listed text is sorted by: to six digits, more than the text shows of it."""
    by_place: list[float | None] = [None] * count
    for place, cell in zip(places, cells, strict=True):
        value = None if isinstance(cell, str) else cell[0]
        by_place[place] = None if value is None else float(f"{value:.6g}")
    return iter(by_place)
