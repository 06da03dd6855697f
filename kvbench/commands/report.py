"""`kvbench report`: one HTML report over any number of runs."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from kvbench.commands import EXIT_PARTLY_UNREADABLE
from kvbench.commands.arguments import Parser, add_language

PATIENCE_S = 2.0  # a person waits so long without being told what for

DESCRIPTION = """Builds one HTML page over every run under the given paths: verdict, charts, texts, figures,
configuration and environment. Of several PATHs the first is what it was: the page says what changed since, arm by arm.
The page is a single file that opens offline."""


def main(argv: list[str]) -> int:
    """0 when every run was usable, 2 when some were left out.

    Raises `RecordError` when a path does not exist, no run is usable, or the output cannot be written.
    """
    arguments = _parser().parse_args(argv)
    from kvbench.language import speaking

    with speaking(arguments.language):
        return _written(arguments)


def _written(arguments: argparse.Namespace) -> int:
    from kvbench.commands.result_files import Stream, named, say
    from kvbench.report.page.html import build
    from kvbench.text import printable

    arguments.paths = named(arguments.paths)
    stream = Stream(arguments.paths)
    output = _output(arguments)
    waiting = threading.Timer(PATIENCE_S, _say_waiting, [len(stream)])
    waiting.daemon = True
    waiting.start()
    try:
        build(
            stream.runs(),
            output,
            stream.notes(),
            redact=arguments.redact,
            folders=arguments.paths,
            tell=stream.broken,
        )
    finally:
        waiting.cancel()
    say(f"{printable(str(output))}\n")
    return EXIT_PARTLY_UNREADABLE if stream.unreadable or stream.broken else 0


def _parser() -> Parser:
    parser = Parser(prog="kvbench report", description=DESCRIPTION)
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="a run folder, a run.json, or any folder above (default: last, the newest run in results/)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: report.html in PATH when it is one folder, else here"
    )
    parser.add_argument(
        "--redact", action="store_true", help="leave out host names, user names and paths; prompts and texts stay"
    )
    add_language(parser)
    return parser


def _output(arguments: argparse.Namespace) -> Path:
    from kvbench.commands.result_files import is_folder
    from kvbench.records.store import REPORT

    output: Path | None = arguments.output
    if output is None:
        only = arguments.paths[0]
        return Path(only / REPORT) if len(arguments.paths) == 1 and is_folder(only) else Path(REPORT)
    return output / REPORT if is_folder(output) else output


def _say_waiting(runs: int) -> None:
    sys.stderr.write(f"building the report over {runs} run{'' if runs == 1 else 's'} …\n")
