"""`kvbench show`: a run, or a folder of runs, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvbench.commands import EXIT_PARTLY_UNREADABLE, LAST
from kvbench.commands.arguments import Parser, add_language
from kvbench.errors import RecordError

if TYPE_CHECKING:
    from kvbench.records.run_record import RunRecord

DESCRIPTION = """Shows one run with its figures and its verdict, or a folder of runs as a table with a row for each."""


def main(argv: list[str]) -> int:
    """0 when every run was usable, 2 when some were left out.

    Raises `RecordError` when the path does not exist or holds no usable run.
    """
    arguments = _parser().parse_args(argv)
    from kvbench.commands.result_files import gather, named
    from kvbench.language import speaking

    (path,) = named([arguments.path])
    found = gather([path])
    records = [run.record for run in found.runs]
    with speaking(arguments.language):
        if arguments.shapes:
            _print_shapes(records, as_json=arguments.json)
        elif arguments.json:
            _print_json(records, alone=_is_run(path))
        else:
            _print_tables(records)
    return EXIT_PARTLY_UNREADABLE if found.unreadable else 0


def _parser() -> Parser:
    parser = Parser(prog="kvbench show", description=DESCRIPTION)
    parser.add_argument(
        "path",
        nargs="?",
        type=Path,
        default=LAST,
        metavar="PATH",
        help="a run folder, a run.json, or any folder above (default: last, the newest run in results/)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the record of a run, or the list of records of a folder of runs"
    )
    parser.add_argument(
        "--shapes", action="store_true", help="print what the model returned for one prefill and one step of each mode"
    )
    add_language(parser)
    return parser


def _is_run(path: Path) -> bool:
    """Whether the path is one run itself rather than a folder of runs: that decides the shape of the JSON."""
    from kvbench.records.store import RECORD

    return path.is_file() or (path / RECORD).exists()


def _print_json(records: Sequence[RunRecord], *, alone: bool) -> None:
    from kvbench.commands.result_files import write_stdout
    from kvbench.report.exports.formats import record_json

    plain = [record.model_dump(mode="json") for record in records]
    write_stdout(record_json(plain[0] if alone else plain))


def _print_shapes(records: Sequence[RunRecord], *, as_json: bool) -> None:
    from kvbench.commands.result_files import say, write_stdout
    from kvbench.report.exports.formats import record_json

    if len(records) != 1:
        raise RecordError(f"--shapes is about one run and there are {len(records)}: name one run folder")
    shapes = records[0].shapes
    if not shapes:
        raise RecordError("this run has no shapes: it ended before them, or its model has no tensors")
    if as_json:
        write_stdout(record_json(shapes))
        return
    from rich.console import Console

    from kvbench.report.console import shapes_table

    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for name, parts in shapes.items():
            console.print(shapes_table(_pass_name(name), parts))
    say(captured.get())


def _pass_name(name: str) -> str:
    from kvbench.report.sentences import say

    return say("shape.prefill") if name == "prefill" else say("shape.step", mode=name)


def _print_tables(records: Sequence[RunRecord]) -> None:
    from rich.console import Console

    from kvbench.commands.result_files import say
    from kvbench.report.console import run_row, runs_table, whole_run

    console = Console(highlight=False, markup=False, emoji=False)
    # Captured, then written in one go: rich would answer a closed pipe by ending the process with an error.
    with console.capture() as captured:
        if len(records) == 1:
            console.print(whole_run(records[0]))
        else:
            console.print(runs_table([run_row(record) for record in records]))
    say(captured.get())
