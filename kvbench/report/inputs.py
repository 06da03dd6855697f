"""The runs that a command is pointed at, with everything unusable named on the way."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from kvbench.errors import RecordError
from kvbench.printable import printable
from kvbench.records.store import Found, find_runs


def gather(paths: Sequence[Path]) -> Found:
    """Every usable run under `paths`; corrupt and unfinished ones are named on stderr, a line each.

    Raises `RecordError` when a path does not exist, or when no usable run is found.
    """
    found = find_runs(paths)
    for run in found.unreadable:
        _say(f"skipped {run}")
    for run in found.unfinished:
        _say(f"unfinished {run}")
    if not found.runs:
        raise RecordError(f"{printable(', '.join(map(str, paths)))}: no usable run")
    return found


def _say(line: str) -> None:
    sys.stderr.write(f"kvbench: {printable(line)}\n")
