"""`kvbench query`: SQL over any number of run folders."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kvbench.commands import EXIT_PARTLY_UNREADABLE
from kvbench.commands.arguments import Parser

FORMATS = ("table", "csv", "json", "parquet")  # `report.exports.sql` writes them
RESULTS = Path("results")  # where run folders go by default

DESCRIPTION = """Answers a SELECT over every run under the given paths, through DuckDB (extra: kvbench[query]). The
views are runs, arms, comparisons and steps; --views lists their columns. A query only reads: it can reach no other
file and change none."""


def main(argv: list[str]) -> int:
    """0 when every run was usable, 2 when some were left out.

    Raises `ConfigError` for a query that fails, and `RecordError` when a path does not exist, no run is usable, or the
    output cannot be written.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.views:
        return _list_views()
    if arguments.sql is None:
        parser.error('give a query, such as "select name, arm, decode_tokens_per_s from arms", or ask for the --views')
    if arguments.format == "parquet" and arguments.output is None and sys.stdout.isatty():
        parser.error("parquet is not text: give --output FILE, or send it through a pipe")
    return _answer(arguments)


def _answer(arguments: argparse.Namespace) -> int:
    from kvbench.commands.result_files import Stream, named, write_file, write_stdout
    from kvbench.report.exports.sql import query

    stream = Stream(named(arguments.paths or [RESULTS]))
    content = query(arguments.sql, stream.runs(), arguments.format, stream.broken)
    if arguments.output is None:
        write_stdout(content)
    else:
        write_file(arguments.output, content)
    return EXIT_PARTLY_UNREADABLE if stream.unreadable or stream.broken else 0


def _list_views() -> int:
    from kvbench.commands.result_files import say
    from kvbench.report.exports.columns import VIEW_MEANINGS, VIEWS
    from kvbench.report.exports.sql import views_text

    say(views_text(VIEWS, VIEW_MEANINGS))
    return 0


def _parser() -> Parser:
    parser = Parser(prog="kvbench query", description=DESCRIPTION)
    parser.add_argument("sql", nargs="?", metavar="SQL", help="one SELECT")
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="a run folder, a run.json, or any folder above; last: the newest run (default: results)",
    )
    parser.add_argument("--views", action="store_true", help="list the views with their columns, types and units")
    parser.add_argument("--format", choices=FORMATS, default="table", help="default: a table of 80 columns")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    return parser
