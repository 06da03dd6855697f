"""`kvbench push`: runs as a data set of the Hugging Face Hub. Without --yes it shows what would be sent."""

from __future__ import annotations

import argparse
from pathlib import Path

from kvbench.commands import EXIT_PARTLY_UNREADABLE
from kvbench.commands.arguments import Parser, add_language

MOST_LISTED = 40  # files

DESCRIPTION = """Shows what would be sent to a data set of the Hugging Face Hub; --yes sends it. Per run: its record,
its blocks and its steps, and a table of its arms. Prompts, generated texts and tokens stay on this machine; host names,
user names, paths and secrets are replaced. A data set that is made is private unless --public is given."""


def main(argv: list[str]) -> int:
    """0 when every run was usable, 2 when some were left out.

    Raises `ConfigError` for an id that is none, `RecordError` when no run is usable, and `KvbenchError` when the hub
    does not take it.
    """
    arguments = _parser().parse_args(argv)
    from kvbench.language import speaking

    with speaking(arguments.language):
        return _pushed(arguments)


def _pushed(arguments: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from kvbench.commands.result_files import Stream, named
    from kvbench.commands.result_files import say as tell
    from kvbench.report.exports.dataset import Staged, push, require_dataset, stage
    from kvbench.report.sentences import counted, say
    from kvbench.text import format_value

    require_dataset(arguments.dataset)
    stream = Stream(named(arguments.paths))

    def listed(staged: Staged) -> str:
        files = list(staged.files())
        lines = [f"{path}  {format_value(size, 'bytes')}" for path, size in files[:MOST_LISTED]]
        if len(files) > MOST_LISTED:
            lines.append(f"… +{len(files) - MOST_LISTED:,}")
        size = format_value(sum(size for _, size in files), "bytes")
        facts = {"files": f"{len(files):,}", "size": size, "dataset": arguments.dataset}
        lines.append(counted("push.total", staged.runs, **facts))
        counts = ", ".join(f"{name} {count:,}×" for name, count in staged.replaced.items() if count)
        lines.append(say("push.redacted", counts=counts) if counts else say("push.nothing-redacted"))
        return "\n".join((*lines, say("push.never"), ""))

    with TemporaryDirectory(prefix="kvbench-push-") as folder:
        staged = stage(stream.runs(), Path(folder), stream.broken)
        tell(listed(staged))
        if arguments.yes:
            address = push(staged, arguments.dataset, public=arguments.public)
            tell(say("push.sent.public" if arguments.public else "push.sent.private", address=address) + "\n")
        else:
            tell(say("push.dry") + "\n")
    return EXIT_PARTLY_UNREADABLE if stream.unreadable or stream.broken else 0


def _parser() -> Parser:
    parser = Parser(prog="kvbench push", description=DESCRIPTION)
    parser.add_argument("dataset", metavar="DATASET", help="ORG/NAME; it is made where there is none")
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="a run folder, a run.json, or any folder above (default: last, the newest run in results/)",
    )
    sent = parser.add_mutually_exclusive_group()
    sent.add_argument("--dry-run", action="store_true", help="show what would be sent (the default)")
    sent.add_argument("--yes", action="store_true", help="send it")
    parser.add_argument("--public", action="store_true", help="for everyone to read (default: private)")
    add_language(parser)
    return parser
