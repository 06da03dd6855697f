"""SQL over run folders, by DuckDB: the views of `columns.VIEWS` as tables of a database that can only be read.

The database is a temporary file, so that runs and steps need not fit into memory. What a query may do is limited by
DuckDB itself: the file is opened read-only, and nothing outside of it, no other file, network, extension or Python
variable, can be reached. What records hold goes in as values, never as SQL.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from kvbench.errors import ConfigError, RecordError
from kvbench.installation import install_hint
from kvbench.records.store import STEPS, Hearer, StoredRun, Unreadable, nobody, read_steps
from kvbench.report.exports.columns import VIEWS, Column, Row
from kvbench.report.exports.formats import arrow_table, cell, named_steps, parquet_bytes
from kvbench.report.exports.rows import arm_rows, comparison_rows, run_row
from kvbench.text import is_unicode, printable

if TYPE_CHECKING:
    import duckdb
    import pyarrow

AT_A_TIME = 200  # runs that are held in memory
SHOWN_COLUMNS = 80
MOST_SHOWN_ROWS = 1000
SEALED: Mapping[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "allow_persistent_secrets": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "lock_configuration": True,
}
TYPES = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
_STEPS = re.compile(r"\bsteps\b", re.IGNORECASE)
_PLACE = re.compile(r"\n\s*LINE \d+:.*", re.DOTALL)  # of an error: the query again, with a caret below it
_ROWS: Mapping[str, Callable[[StoredRun], Iterable[Row]]] = {
    "runs": lambda run: [run_row(run)],
    "arms": arm_rows,
    "comparisons": comparison_rows,
}


def query(sql: str, runs: Iterable[StoredRun], format: str, tell: Hearer = nobody) -> bytes:
    """The answer to one SELECT over the runs, as `table`, `csv`, `json` or `parquet`.

    Runs are let go as they are read, and step tables are read only where `steps` is named. `tell` hears of step tables
    that cannot be read. Raises `ConfigError` where DuckDB is missing, and for a query that is none or fails.
    """
    if find_spec("duckdb") is None:
        raise ConfigError(f"query needs the package duckdb, which is not installed: {install_hint('query')}")
    import duckdb

    try:
        _require_one_select(sql)
        with duckdb.connect(config=dict(SEALED)) as empty:  # a mistake is told before a thousand runs are read
            _declare(empty)
            empty.sql(sql)
        with tempfile.TemporaryDirectory(prefix="kvbench-query-") as folder:
            file = Path(folder, "runs.duckdb")
            with duckdb.connect(file) as writer:
                _fill(writer, runs, tell, with_steps=_STEPS.search(sql) is not None)
            with duckdb.connect(file, read_only=True, config=dict(SEALED)) as reader:
                return FORMATS[format](reader, sql)
    except duckdb.Error as error:
        raise ConfigError(f"query: {_in_one_line(error)}; `kvbench query --views` lists the columns") from error


def _require_one_select(sql: str) -> None:
    import duckdb

    if not is_unicode(sql):
        raise ConfigError("query: holds bytes that are no UTF-8 text")
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ConfigError('query: takes one SELECT, such as "select name, arm, decode_tokens_per_s from arms"')


def _in_one_line(error: Exception) -> str:
    return printable(" ".join(_PLACE.sub("", str(error)).split()))


def _declare(database: duckdb.DuckDBPyConnection) -> None:
    for view, columns in VIEWS.items():
        declared = ", ".join(f"{name} {TYPES[column.kind]}" for name, column in columns.items())
        database.execute(f"CREATE TABLE {view} ({declared})")  # names and types of ours


def _fill(database: duckdb.DuckDBPyConnection, runs: Iterable[StoredRun], tell: Hearer, *, with_steps: bool) -> None:
    _declare(database)
    source = iter(runs)
    while some := list(islice(source, AT_A_TIME)):
        for view, rows_of in _ROWS.items():
            rows = [row for run in some for row in rows_of(run)]
            _insert(database, view, arrow_table(rows, VIEWS[view]))
        for table in _step_tables(some, tell) if with_steps else ():
            _insert(database, "steps", table)


def _insert(database: duckdb.DuckDBPyConnection, view: str, table: pyarrow.Table) -> None:
    database.register("batch", table)
    database.execute(f"INSERT INTO {view} SELECT {', '.join(VIEWS[view])} FROM batch")  # noqa: S608 - names of ours
    database.unregister("batch")


def _step_tables(runs: Iterable[StoredRun], tell: Hearer) -> Iterator[pyarrow.Table]:
    for run in runs:
        try:
            table = read_steps(run.folder)
        except RecordError as error:
            tell(Unreadable.of(run.folder / STEPS, error))
            continue
        if table is not None:
            yield _named(table, run)


def _named(table: pyarrow.Table, run: StoredRun) -> pyarrow.Table:
    """The steps with the names of their run, folder and arm; what an older table lacks is null."""
    import pyarrow

    same = {name: printable(str(value)) for name, value in run_row(run).items() if name in ("run_id", "folder")}
    columns = {
        "arm": named_steps(table, run.record)["arm_name"],
        **{name: pyarrow.repeat(value, table.num_rows) for name, value in same.items()},
    }
    absent = {"lane": pyarrow.repeat("steps", table.num_rows)}
    for name in VIEWS["steps"]:
        if name not in columns:
            known = table[name] if name in table.column_names else absent.get(name, pyarrow.nulls(table.num_rows))
            columns[name] = known
    return pyarrow.table(columns)


# The answer.


def _shown(database: duckdb.DuckDBPyConnection, sql: str) -> bytes:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        database.sql(sql).show(max_width=SHOWN_COLUMNS, max_rows=MOST_SHOWN_ROWS)
    return f"{printable(text.getvalue()).strip()}\n".encode()


def _csv(database: duckdb.DuckDBPyConnection, sql: str) -> bytes:
    names, rows = _fetched(database, sql)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(cell, names))
    writer.writerows(map(cell, row) for row in rows)
    return text.getvalue().encode()


def _json(database: duckdb.DuckDBPyConnection, sql: str) -> bytes:
    names, rows = _fetched(database, sql)
    lines = [json.dumps(dict(zip(names, map(_plain, row), strict=True)), default=str) for row in rows]
    return ("[" + ",\n ".join(lines).replace("\x7f", "\\u007f") + "]\n").encode()


def _fetched(database: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    answer = database.execute(sql)
    names = [str(column[0]) for column in answer.description or ()]
    return names, chain.from_iterable(iter(lambda: answer.fetchmany(AT_A_TIME), []))


def _plain(value: Any) -> Any:
    """JSON has neither NaN nor infinity: they are not known."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parquet(database: duckdb.DuckDBPyConnection, sql: str) -> bytes:
    return parquet_bytes(database.sql(sql).to_arrow_table())


FORMATS: Mapping[str, Callable[[Any, str], bytes]] = {"table": _shown, "csv": _csv, "json": _json, "parquet": _parquet}


def views_text(views: Mapping[str, Mapping[str, Column]], meanings: Mapping[str, str]) -> str:
    """Every view with its columns, their types and units, for a terminal."""
    lines = []
    for view, columns in views.items():
        lines += wrap(f"{view}: {meanings[view]}", SHOWN_COLUMNS)
        for name, column in columns.items():
            unit = f", {column.unit}" if column.unit else ""
            text = f"{name} ({TYPES[column.kind]}{unit}): {column.meaning}"
            lines += wrap(text, SHOWN_COLUMNS, initial_indent="  ", subsequent_indent="      ")
        lines.append("")
    return "\n".join(lines)
