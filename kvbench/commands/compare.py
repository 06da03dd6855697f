"""`kvbench compare`: new runs against old ones, with an exit code that a pipeline can trust."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kvbench.commands.arguments import Parser
from kvbench.options import RELEVANT_ACROSS_RUNS

EXIT_OK, EXIT_SLOWER, EXIT_UNREADABLE, EXIT_NOT_COMPARABLE, EXIT_AMBIGUOUS = 0, 1, 2, 4, 5
EXIT_CODES = {
    "FASTER": EXIT_OK,
    "SAME": EXIT_OK,
    "SLOWER": EXIT_SLOWER,
    "INVALID": EXIT_NOT_COMPARABLE,
    "AMBIGUOUS": EXIT_AMBIGUOUS,
}

DESCRIPTION = """Compares the decode speed of every kind of run (compare_key) in NEW with that in BASE, arm by arm, and
prints a Markdown table. Both are searched recursively; runs of one process count as one sample, and at least five
processes a side make a verdict. With --ab, BASE and NEW are two commands for the shell, and with --ab-revisions two
revisions of the git repository around: both are measured here first, in alternating processes. Exit codes: 0 SAME or
FASTER, 1 SLOWER, 2 a path is missing or unreadable, 4 not comparable, without a counterpart or unfinished, 5 AMBIGUOUS
or too few runs."""

DEFAULT_PAIRS = 10  # of equal code with 2 % noise between processes, all are called SAME: docs/how-to/regressions.md
ONLY_AB = ("pairs", "results", "setup", "python")  # options that mean nothing where nothing is measured


def main(argv: list[str]) -> int:
    """The exit code of the command table; whatever cannot be told is never 0.

    Raises `RecordError` when a path does not exist or holds no usable run.
    """
    parser = _parser()
    arguments = parser.parse_intermixed_args(argv)
    _require_fitting(parser, arguments)
    if not 0 < arguments.relevance < 1:
        parser.error(f"--relevance {arguments.relevance:g}: must be between 0 and 1, such as 0.05 for 5 %")
    from kvbench.analysis.regression import gate, worst
    from kvbench.commands.result_files import gather, named, say, write_stdout
    from kvbench.report.exports.formats import regression_data, regression_markdown, regression_summary

    if arguments.ab or arguments.ab_revisions:
        arguments.base, arguments.new = _measured(arguments)
    sides = [Path(arguments.base), Path(arguments.new)]
    base, new = (gather([path]) for path in named(sides))
    rows = gate(
        [run.record for run in base.runs],
        [run.record for run in new.runs],
        arguments.relevance,
        any_revision=arguments.any_revision,
    )
    code = EXIT_CODES[worst(rows)]
    if new.unfinished and code != EXIT_SLOWER:
        code = EXIT_NOT_COMPARABLE  # killed, perhaps by the change; whose counterpart it is nobody can tell
    if base.unreadable or new.unreadable:
        code = EXIT_UNREADABLE
    if arguments.html is not None:
        from kvbench.language import speaking
        from kvbench.report.page.html import build

        with speaking(None):
            build(
                [*base.runs, *new.runs],
                arguments.html,
                folders=sides,
                relevance=arguments.relevance,
                any_revision=arguments.any_revision,
            )
    if arguments.json:
        from kvbench.report.exports.formats import record_json

        write_stdout(record_json({"relevance": arguments.relevance, "exit_code": code, "rows": regression_data(rows)}))
    else:
        say(f"{regression_markdown(rows)}\n{regression_summary(rows, arguments.relevance)} Exit code {code}.\n")
    return code


def _measured(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Measure both sides in turns; the folders of their runs. Progress is told on standard error."""
    from kvbench.config.schema import Config
    from kvbench.point import new_run_id
    from kvbench.running.alternating import Side, alternate
    from kvbench.running.checkouts import checked_out

    root = arguments.results or Path(Config().results_dir) / f"ab-{new_run_id()}"
    pairs = arguments.pairs or DEFAULT_PAIRS
    both = (("base", arguments.base), ("new", arguments.new))
    try:
        if arguments.ab:
            alternate([Side(name, command, Path.cwd(), "") for name, command in both], pairs, root, _tell)
        else:
            with checked_out(both, arguments.overrides, arguments.setup, arguments.python) as sides:
                alternate(sides, pairs, root, _tell)
    except KeyboardInterrupt:
        if root.exists():
            _tell(f"stopped; finished processes are in {root}, and --results {root} goes on from there")
        raise
    _tell(f"the runs are in {root}")
    return root / "base", root / "new"


def _tell(line: str) -> None:
    print(f"kvbench: {line}", file=sys.stderr, flush=True)  # noqa: T201 - the table alone is standard output


def _require_fitting(parser: Parser, arguments: argparse.Namespace) -> None:
    """An option that would do nothing is refused."""
    measures = arguments.ab or arguments.ab_revisions
    idle = [f"--{name}" for name in ONLY_AB if getattr(arguments, name) is not None and not measures]
    idle += [f"--{name}" for name in ("setup", "python") if getattr(arguments, name) is not None and arguments.ab]
    if idle:
        parser.error(f"{idle[0]}: goes with {'--ab-revisions' if arguments.ab else '--ab or --ab-revisions'}")
    if arguments.overrides and not arguments.ab_revisions:
        parser.error(f"{arguments.overrides[0]}: overrides go with --ab-revisions; a command of --ab has its own")
    if any(word.startswith("results_dir=") for word in arguments.overrides):
        parser.error("results_dir: --results names the folder of both sides")
    if arguments.pairs is not None:
        from kvbench.analysis.regression import LEAST_PROCESSES

        if arguments.pairs < LEAST_PROCESSES:
            parser.error(f"--pairs {arguments.pairs}: a verdict needs at least {LEAST_PROCESSES} processes a side")


def _parser() -> Parser:
    parser = Parser(prog="kvbench compare", description=DESCRIPTION)
    parser.add_argument("base", metavar="BASE", help="a run folder or any folder above: what it was")
    parser.add_argument("new", metavar="NEW", help="the same for what it is now; last is the newest run in results/")
    parser.add_argument("overrides", nargs="*", metavar="-- KEY=VALUE", help="with --ab-revisions: what to measure")
    measuring = parser.add_mutually_exclusive_group()
    measuring.add_argument(
        "--ab",
        action="store_true",
        help="BASE and NEW are commands: measure both in turns; {results} in them is the folder for the run, or"
        " results_dir=FOLDER is added",
    )
    measuring.add_argument(
        "--ab-revisions",
        action="store_true",
        help="BASE and NEW are git revisions: check both out beside this checkout, and measure them in turns",
    )
    parser.add_argument("--pairs", type=int, metavar="N", help=f"processes a side (default: {DEFAULT_PAIRS})")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder for the runs of both sides, base and new (default: results/ab-…); what it holds of the same two"
        " is not measured again",
    )
    parser.add_argument(
        "--setup", metavar="COMMAND", help="with --ab-revisions: for the shell, once in each checkout before measuring"
    )
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="with --ab-revisions: the interpreter, relative to each checkout (default: this one)",
    )
    parser.add_argument(
        "--relevance",
        type=float,
        default=RELEVANT_ACROSS_RUNS,
        metavar="SHARE",
        help="relative change that counts as none, either way (default: %(default)s)",
    )
    parser.add_argument(
        "--any-revision",
        action="store_true",
        help="also compare runs of one hub model whose commits (model.revision) differ",
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="also write a page with both sides, verdict first, as `report` does"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    return parser
