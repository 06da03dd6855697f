"""The runs that a command is pointed at, with everything unusable named, and where its result goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kvbench.commands import LAST
from kvbench.config.schema import Config
from kvbench.errors import RecordError, reason_of
from kvbench.launching.order import Order, Standing, unfinished_sweeps
from kvbench.records.store import (
    Found,
    StoredRun,
    Unreadable,
    find_runs,
    read_runs,
    record_paths,
    replace_file,
    unfinished_runs,
)
from kvbench.report.sentences import say as say_code
from kvbench.text import LONGEST_LINE, printable, shortened

NAMED_POINTS = 3  # of those without a record, in a line


def named(paths: Sequence[Path]) -> list[Path]:
    """The paths, with the newest run's folder in the place of `last`, unless something here is called so, and of none.

    Raises `RecordError` where no run is in the usual results folder.
    """
    return [newest_run() if str(path) == LAST and not path.exists() else path for path in paths or [Path(LAST)]]


def newest_run() -> Path:
    """The folder of the run that was recorded last in `results`. Raises `RecordError` where there is none."""
    results = Path(Config().results_dir)
    records = record_paths([results]) if results.is_dir() else []
    if not records:
        raise RecordError(f"{LAST}: no run in {results}/ here; measure one with `python -m kvbench`, or name a path")
    return max(records, key=lambda record: record.stat().st_mtime).parent


def gather(paths: Sequence[Path]) -> Found:
    """Every usable run under `paths`; corrupt and unfinished ones are named on stderr, a line each.

    Raises `RecordError` when a path does not exist, or when no usable run is found.
    """
    found = find_runs(paths)
    for run in found.unreadable:
        _warn(f"skipped {run}")
    for run in found.unfinished:
        _warn(f"unfinished {run}")
    if not found.runs:
        raise _nothing_in(paths, any_found=bool(found.unreadable or found.unfinished))
    return found


class Stream:
    """The same one run at a time, for a reader that lets each go before the next.

    `unreadable`, `unfinished` and `broken`, files beside a record, are known once the runs are read. Raises
    `RecordError` as `gather` does.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._records = record_paths(paths)
        self.unreadable: list[Unreadable] = []
        self.broken = Broken()
        self.unfinished: list[Unreadable] = []

    def __len__(self) -> int:
        return len(self._records)

    def runs(self) -> Iterator[StoredRun]:
        """Every usable run, in the order of the folders."""
        for standing in unfinished_sweeps(self._paths):
            _warn(standing_line(standing))
        usable = 0
        for each in read_runs(self._records):
            if isinstance(each, StoredRun):
                usable += 1
                yield each
            else:
                self._skip(each)
        unfinished, broken = unfinished_runs(self._paths)
        for each in broken:
            self._skip(each)
        for each in unfinished:
            _warn(f"unfinished {each}")
            self.unfinished.append(each)
        if not usable:
            raise _nothing_in(self._paths, any_found=bool(self.unreadable or self.unfinished))

    def notes(self) -> Iterator[str]:
        """A line for each run that is not among them, and for each launched sweep that has not ended."""
        yield from map(standing_line, unfinished_sweeps(self._paths))
        yield from (f"left out: {run}" for run in self.unreadable)
        yield from (f"unfinished: {run}" for run in self.unfinished)

    def _skip(self, run: Unreadable) -> None:
        _warn(f"skipped {run}")
        self.unreadable.append(run)


def standing_line(standing: Standing) -> str:
    """How far a launched sweep has come, and the first points that it lacks."""
    order, lacking = standing.order, (*standing.begun, *standing.waiting)
    counts = {"running": len(standing.begun), "missing": len(standing.waiting), "of": len(order.points)}
    facts = {"sweep": standing.sweep.name, "done": len(order.points) - len(lacking), "points": some(order, lacking)}
    return say_code("sweep.standing", **counts, **facts)


def some(order: Order, points: Sequence[int]) -> str:
    """The first of these points, by their overrides, and how many more there are."""
    shared = set(order.points[0]).intersection(*order.points[1:]) if len(order.points) > 1 else set()
    named = [" ".join(each for each in order.points[point] if each not in shared) for point in points[:NAMED_POINTS]]
    more = [say_code("sweep.and-more", count=len(points) - NAMED_POINTS)] if len(points) > NAMED_POINTS else []
    return "; ".join((*named, *more))


def _nothing_in(paths: Sequence[Path], *, any_found: bool) -> RecordError:
    reason = "no usable run" if any_found else "no runs yet; measure one with `python -m kvbench`"
    return RecordError(f"{printable(', '.join(map(str, paths)))}: {reason}")


class Broken(list[Unreadable]):
    """Files beside a record that do not fit: named on stderr, a line each, and kept."""

    def __call__(self, file: Unreadable) -> None:
        """Hear of one."""
        _warn(f"skipped {file}")
        self.append(file)


def _warn(line: str) -> None:
    """One line, whatever names and reasons hold."""
    sys.stderr.write(f"kvbench: {shortened(line, LONGEST_LINE)}\n")


# Where a command's result goes: standard output, or a file.


def write_file(output: Path, content: bytes) -> None:
    """Write a file in one step. Raises `RecordError` when it cannot be written."""
    if is_folder(output):
        raise RecordError(f"{printable(str(output))}: is a folder; name a file")
    replace_file(output, content)


def is_folder(output: Path) -> bool:
    """Whether a path is a folder. Raises `RecordError` where that may not be looked at."""
    try:
        return output.is_dir()
    except (OSError, ValueError) as error:
        raise RecordError(f"{output}: cannot write ({reason_of(error)})") from error


def write_stdout(content: bytes) -> None:
    """Write to standard output, all of it now: a closed pipe shows here as `BrokenPipeError`, not at exit."""
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """Write text to standard output in its encoding; what that lacks is replaced rather than an error."""
    write_stdout(text.encode(sys.stdout.encoding or "utf-8", errors="replace"))
