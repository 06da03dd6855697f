"""Where a command's result goes: standard output, or a file."""

from __future__ import annotations

import sys
from pathlib import Path

from kvbench.errors import RecordError
from kvbench.printable import printable
from kvbench.records.store import replace_file


def write_file(output: Path, content: bytes) -> None:
    """Write a file in one step. Raises `RecordError` when it cannot be written."""
    if output.is_dir():
        raise RecordError(f"{printable(str(output))}: is a folder; name a file")
    replace_file(output, content)


def write_stdout(content: bytes) -> None:
    """Write to standard output, all of it now: a closed pipe shows here as `BrokenPipeError`, not at exit."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """Write text to standard output in its encoding; what that lacks is replaced rather than an error."""
    write_stdout(text.encode(sys.stdout.encoding or "utf-8", errors="replace"))
