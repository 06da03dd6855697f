"""Runs in the formats of other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from kvbench.printable import printable
from kvbench.records.store import StoredRun
from kvbench.report.exports.markdown import markdown
from kvbench.report.exports.pytest_benchmark import pytest_benchmark
from kvbench.report.exports.rows import COLUMNS, flat_rows

# A spreadsheet runs a cell that begins so; a quote in front makes it text.
FORMULA_STARTS = ("=", "+", "-", "@")


def export(runs: Sequence[StoredRun], format: str) -> bytes:
    """The runs as `csv`, `json`, `parquet`, `md` or `pytest-benchmark`. Raises `KeyError` on any other format.

    csv and parquet hold one row per run and arm (see `report.rows`), json the list of the records, md tables, and
    pytest-benchmark what `pytest-benchmark compare` reads.
    """
    return FORMATS[format](runs)


def record_json(value: Any) -> bytes:
    """JSON of plain data in ASCII only: safe on any terminal, and every character can be had back."""
    text = json.dumps(value, indent=1, allow_nan=False)
    # DEL is the one control character that JSON leaves as it is; it can only stand inside strings.
    return (text.replace("\x7f", "\\u007f") + "\n").encode()


def _json(runs: Sequence[StoredRun]) -> bytes:
    return record_json([run.record.model_dump(mode="json") for run in runs])


def _csv(runs: Sequence[StoredRun]) -> bytes:
    rows = flat_rows([run.record for run in runs])
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) if isinstance(value, str) else value for name, value in row.items()})
    return text.getvalue().encode()


def _cell(text: str) -> str:
    safe = printable(text)
    return f"'{safe}" if safe.startswith(FORMULA_STARTS) else safe


def _parquet(runs: Sequence[StoredRun]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    rows = [
        {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in flat_rows([run.record for run in runs])
    ]
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _markdown(runs: Sequence[StoredRun]) -> bytes:
    return markdown([run.record for run in runs]).encode()


def _pytest_benchmark(runs: Sequence[StoredRun]) -> bytes:
    return record_json(pytest_benchmark(runs))


FORMATS: dict[str, Callable[[Sequence[StoredRun]], bytes]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
    "md": _markdown,
    "pytest-benchmark": _pytest_benchmark,
}
