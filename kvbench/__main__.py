"""The command line: a table of contents. Every command is a file in `kvbench.commands`, loaded when it is called."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Callable, Sequence

from kvbench.commands import EXIT_INTERRUPTED, SUBCOMMANDS
from kvbench.errors import KvbenchError
from kvbench.standard_streams import complain, drop_output, open_closed_streams, unwritten
from kvbench.text import LONGEST_ECHO, LONGEST_LINE, shortened

# What writing to a file without a name here, standard output, may fail with.
OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

Command = Callable[[list[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. A word without `=` is a subcommand, the rest is Hydra's grammar."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    open_closed_streams()
    code = _run(arguments)
    lost = unwritten()
    if lost is None or isinstance(lost, BrokenPipeError):
        return code
    _complain(_unwritable(lost), arguments)
    return code or 1


def _run(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except KvbenchError as error:
        _complain(str(error), arguments)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone, as `| head` does: nobody is left to tell.
        drop_output()
        return 0
    except OSError as error:  # a disk, a device or a limit of the system, where no command has a better sentence
        is_output = error.filename is None and error.errno in OF_WRITING
        _complain(_unwritable(error) if is_output else str(error), arguments)
        unwritten()
        return 1


def _unwritable(error: OSError) -> str:
    return f"standard output cannot be written ({error.strerror or error})"


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if first in SUBCOMMANDS:
        return _command(first)(arguments[1:])
    if first in ("help", "--version") or {"-h", "--help"} & set(arguments):
        return _command("help")(arguments)
    if first and "=" not in first and not first.startswith(("-", "~", "+")):
        from kvbench.commands.arguments import unknown_word

        raise unknown_word(first, arguments[1:])
    return _command("run")(arguments)


def _complain(message: str, arguments: Sequence[str]) -> None:
    """One line. Of what was typed, long values come back cut, and so does the whole."""
    typed = {part for word in arguments for part in (word, word.partition("=")[2]) if len(part) > LONGEST_ECHO}
    for long in sorted(typed, key=len, reverse=True):
        message = message.replace(long, shortened(long))
    complain(shortened(message, LONGEST_LINE))


def _command(name: str) -> Command:
    command: Command = importlib.import_module(f"kvbench.commands.{name}").main
    return command


if __name__ == "__main__":
    sys.exit(main())
