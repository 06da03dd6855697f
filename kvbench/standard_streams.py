"""Standard input, output and error, of which any may be closed, and any may stop taking what is written to it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO


def open_closed_streams() -> None:
    """Put the null device in the place of each one that is closed, as daemons and `>&-` leave them.

    The next file that this process or its worker opens would take that place, and whatever prints would write into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    sys.stdout = sys.stdout or _writing_to(1)
    sys.stderr = sys.stderr or _writing_to(2)


def _writing_to(descriptor: int) -> IO[str]:
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", closefd=False)


def unwritten() -> OSError | None:
    """Why standard output does not take what was printed; None when it has taken everything.

    What it did not take is dropped, and so is what is printed from now on: Python would try it again when it ends.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        drop_output()
        return error
    except ValueError:  # somebody has closed it
        return None
    return None


def drop_output() -> None:
    """Let standard output go nowhere from now on."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def complain(line: str) -> None:
    """One line of ours on standard error; nobody is told when that cannot be written either."""
    with suppress(OSError, ValueError):
        print(f"kvbench: {line}", file=sys.stderr, flush=True)  # noqa: T201 - what went wrong, where errors go
