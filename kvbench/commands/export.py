"""`kvbench export`: runs in the formats of other programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kvbench.commands import EXIT_PARTLY_UNREADABLE
from kvbench.commands.arguments import Parser

# In the order of their usefulness; kept here so that --help needs no records. `report.exports.formats` writes them.
FORMATS = ("csv", "json", "parquet", "md", "pytest-benchmark")
IMAGES = ("svg", "png")  # `report.exports.images` writes them

DESCRIPTION = """Writes every run under the given paths in another format. csv and parquet: one row per run and arm;
json: the list of records; md: a table; pytest-benchmark: a file for `pytest-benchmark compare`; svg and png: every
chart of the report as a picture of its own in the folder --output, with their captions in charts.md (needs the extra
images and a Chrome or Chromium; nothing is fetched)."""


def main(argv: list[str]) -> int:
    """0 when every run was usable, 2 when some were left out.

    Raises `RecordError` when a path does not exist, no run is usable, or the output cannot be written.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.schema:
        return _write_schema(arguments.output)
    if arguments.format is None:
        parser.error("name a --format, or ask for the --schema")
    if arguments.format == "parquet" and arguments.output is None and sys.stdout.isatty():
        parser.error("parquet is not text: give --output FILE, or send it through a pipe")
    if arguments.theme and arguments.format not in IMAGES:
        parser.error(f"--theme={arguments.theme}: only the pictures, svg and png, have a theme")
    if arguments.format in IMAGES:
        if arguments.output is None or (arguments.output.exists() and not arguments.output.is_dir()):
            parser.error(f"--format={arguments.format} writes many files: give --output FOLDER")
        return _write_images(arguments)
    from kvbench.commands.result_files import Broken, gather, named, write_file, write_stdout
    from kvbench.report.exports.formats import export
    from kvbench.report.redaction import redacted_run

    found = gather(named(arguments.paths))
    runs = [redacted_run(run) for run in found.runs] if arguments.redact else found.runs
    broken = Broken()
    content = export(runs, arguments.format, broken)
    if arguments.output is None:
        write_stdout(content)
    else:
        write_file(arguments.output, content)
    return EXIT_PARTLY_UNREADABLE if found.unreadable or broken else 0


def _write_images(arguments: argparse.Namespace) -> int:
    from kvbench.commands.result_files import Broken, gather, named, say
    from kvbench.report.exports.images import write_images
    from kvbench.report.redaction import redacted_run
    from kvbench.text import printable

    found = gather(named(arguments.paths))
    runs = [redacted_run(run) for run in found.runs] if arguments.redact else found.runs
    theme = arguments.theme or "light"
    broken = Broken()
    write_images(runs, arguments.output, arguments.format, theme, lambda path: say(f"{printable(str(path))}\n"), broken)
    return EXIT_PARTLY_UNREADABLE if found.unreadable or broken else 0


def _write_schema(output: Path | None) -> int:
    from kvbench.commands.result_files import write_file, write_stdout
    from kvbench.records.run_record import record_schema_json

    if output is None:
        write_stdout(record_schema_json())
    else:
        write_file(output, record_schema_json())
    return 0


def _parser() -> Parser:
    parser = Parser(prog="kvbench export", description=DESCRIPTION)
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="a run folder, a run.json, or any folder above (default: last, the newest run in results/)",
    )
    parser.add_argument("--format", choices=(*FORMATS, *IMAGES), help="what to write")
    parser.add_argument("--schema", action="store_true", help="write the JSON Schema of run.json instead")
    parser.add_argument("--redact", action="store_true", help="leave out host names, user names and paths")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output; for pictures a folder")
    parser.add_argument("--theme", choices=("light", "dark"), help="of pictures; default: light")
    return parser
