"""`kvbench watch`: runs a script as it is and tells what it submitted to its model, and whether the cache is used."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvbench.commands import EXIT_INTERRUPTED
from kvbench.commands.arguments import Parser
from kvbench.errors import ConfigError, KvbenchError, RecordError

if TYPE_CHECKING:
    from kvbench.watching.watcher import watch

DESCRIPTION = """Runs a script unchanged, with its own arguments and exit code, and watches the first language model
that it calls. At the end it says on standard error what was submitted at each step, whether the KV cache is used, and
what to change. Options of kvbench come before the script's name."""
UNSEEN = (
    "kvbench watch: no language model was called in this process; name one with --target MODULE:NAME (in the script"
    " itself, the module is __main__)"
)

OURS = str(Path(__file__).parents[1])


def main(argv: list[str]) -> int:
    """The script's own exit code.

    Raises `ConfigError` where there is no script, and `RecordError` where a file cannot be written.
    """
    options = _parser().parse_args(argv)
    words = [options.script, *options.arguments] if options.script is not None else []
    _require_script(words, as_module=options.module)
    for file in (options.json, options.html):
        _require_folder(file)
    from kvbench.watching.whole_script import FirstModel

    first = FirstModel(options.target)
    with first.looking():
        code = _run_script(words, as_module=options.module)
    sys.stdout.flush()
    if first.seen is None:
        print(UNSEEN, file=sys.stderr)  # noqa: T201 - the script has standard output for itself
        return code
    _tell(first.seen, options)
    return code


def _parser() -> Parser:
    parser = Parser(prog="kvbench watch", description=DESCRIPTION)
    parser.add_argument("-m", dest="module", action="store_true", help="run a module by its name, as python -m does")
    parser.add_argument(
        "--target",
        metavar="MODULE:NAME",
        help="the model, or the class whose first instance is meant (default: the first model that is called)",
    )
    parser.add_argument("--measure", action="store_true", help="then measure the same lengths with and without a cache")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every pass and finding as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one small page")
    parser.add_argument("script", nargs="?", help="the script, or with -m the module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    return parser


def _run_script(words: Sequence[str], *, as_module: bool) -> int:
    """Run a script, or a module by its name, as Python itself would; returns its exit code.

    An error of the script is printed as Python prints it, without our own frames, and its code is 1.
    """
    script = words[0]
    argv, path = sys.argv, list(sys.path)
    sys.argv = list(words)
    sys.path.insert(0, str(Path.cwd() if as_module else Path(script).resolve().parent))
    try:
        if as_module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return _exit_code(end)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BaseException as error:
        _print_error(error)
        return 1
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0


def _require_script(words: Sequence[str], *, as_module: bool) -> None:
    """Raise `ConfigError` where there is nothing to run."""
    if not words:
        raise ConfigError(
            "watch: names no script: kvbench watch script.py ARGUMENTS, or kvbench watch -m MODULE ARGUMENTS"
        )
    if not as_module and not os.path.exists(words[0]):  # noqa: PTH110 - which a name that is too long makes no error
        raise ConfigError(f"watch: there is no file {words[0]}")


def _exit_code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return int(end.code or 0)
    print(end.code, file=sys.stderr)  # noqa: T201 - as Python does
    return 1


def _print_error(error: BaseException) -> None:
    frames = error.__traceback__
    while frames is not None and (
        frames.tb_frame.f_code.co_filename.startswith((OURS, "<frozen runpy"))
        or "runpy" in frames.tb_frame.f_code.co_filename
    ):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)


def _require_folder(file: Path | None) -> None:
    if file is not None and not os.path.isdir(file.absolute().parent):  # noqa: PTH112 - as above
        raise RecordError(f"{file}: the folder {file.absolute().parent} does not exist")


def _tell(seen: watch, options: argparse.Namespace) -> None:
    import json

    if options.measure:
        try:
            seen.measure()
        except KvbenchError as error:
            print(f"kvbench watch --measure: {error}", file=sys.stderr)  # noqa: T201
    print(f"\n{seen}", file=sys.stderr)  # noqa: T201
    if options.json is not None:
        _write(options.json, json.dumps(seen.record.model_dump(mode="json"), indent=1) + "\n")
    if options.html is not None:
        _write(options.html, seen.to_html())


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{file}: cannot be written ({error.strerror or error})") from error
