"""`kvbench compare`: new runs against old ones, with an exit code that a pipeline can trust."""

from __future__ import annotations

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
processes a side make a verdict. Exit codes: 0 SAME or FASTER, 1 SLOWER, 2 a path is missing or unreadable, 4 not
comparable, without a counterpart or unfinished, 5 AMBIGUOUS or too few runs."""


def main(argv: list[str]) -> int:
    """The exit code of the command table; whatever cannot be told is never 0.

    Raises `RecordError` when a path does not exist or holds no usable run.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not 0 < arguments.relevance < 1:
        parser.error(f"--relevance {arguments.relevance:g}: must be between 0 and 1, such as 0.05 for 5 %")
    from kvbench.analysis.regression import gate, worst
    from kvbench.commands.result_files import gather, named, say, write_stdout
    from kvbench.report.exports.formats import regression_data, regression_markdown, regression_summary

    base, new = (gather([path]) for path in named([arguments.base, arguments.new]))
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
                folders=[arguments.base, arguments.new],
                relevance=arguments.relevance,
                any_revision=arguments.any_revision,
            )
    if arguments.json:
        from kvbench.report.exports.formats import record_json

        write_stdout(record_json({"relevance": arguments.relevance, "exit_code": code, "rows": regression_data(rows)}))
    else:
        say(f"{regression_markdown(rows)}\n{regression_summary(rows, arguments.relevance)} Exit code {code}.\n")
    return code


def _parser() -> Parser:
    parser = Parser(prog="kvbench compare", description=DESCRIPTION)
    parser.add_argument("base", type=Path, metavar="BASE", help="a run folder or any folder above: what it was")
    parser.add_argument(
        "new", type=Path, metavar="NEW", help="the same for what it is now; last is the newest run in results/"
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
