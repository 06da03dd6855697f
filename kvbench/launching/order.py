"""What the jobs of a launched sweep are given, and the journals in which they say what has become of its points."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvbench.errors import RecordError, reason_of
from kvbench.records.store import replace_file

if TYPE_CHECKING:
    from kvbench.config.compose import Point, Sources

ORDER = "order.json"
STOP = "stop"  # an empty file: no job begins another point


@dataclass(frozen=True)
class Order:
    """The points of a sweep, each with the number of its group, and how they are divided into parts.

    The points of a group share a model, a device and threads: whoever measures them one after another loads the model
    once. A part is what one job measures, or, with several `lanes`, what several jobs of one host share.
    """

    points: tuple[Point, ...]
    groups: tuple[int, ...]  # of each point
    parts: tuple[tuple[int, ...], ...]  # indices of points
    lanes: int  # jobs that share a part
    results_dir: str
    folder: str  # where the jobs of all points are told from: whatever paths the points name begin here
    config_path: str
    config_name: str
    config_dir: str | None
    environ: dict[str, str | None]  # variables that the launcher may have changed, and their values; None: not set

    @property
    def sources(self) -> Sources:
        """Where the points' configuration files are."""
        from kvbench.config.compose import Sources  # brings Hydra, which who reads a report does not need

        return Sources(Path(self.config_path), self.config_name, Path(self.config_dir) if self.config_dir else None)

    def write(self, sweep: Path) -> None:
        """Keep it in the sweep's folder. Raises `RecordError`."""
        replace_file(sweep / ORDER, json.dumps(asdict(self)).encode())


def read_order(sweep: Path) -> Order:
    """The order of a sweep. Raises `RecordError` where there is none that can be read."""
    try:
        data: dict[str, Any] = json.loads((sweep / ORDER).read_bytes())
        lists = {name: tuple(map(tuple, data[name])) for name in ("points", "parts")}
        return Order(**{**data, **lists, "groups": tuple(data["groups"])})
    except OSError as error:
        raise RecordError(f"{sweep / ORDER}: cannot read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise RecordError(f"{sweep / ORDER}: not an order of kvbench ({reason_of(error)})") from error


@dataclass(frozen=True)
class Claim:
    """A job has begun with a point."""

    point: int
    lane: int
    pid: int
    host: str


@dataclass(frozen=True)
class Outcome:
    """A point has its record, in `folder` below the sweep's results; or there is none, for the `reason`."""

    point: int
    folder: str | None
    status: str
    earlier: bool = False  # measured before this sweep
    reason: str = ""


@dataclass(frozen=True)
class Said:
    """A line of a job for whoever watches."""

    lane: int
    text: str


Entry = Claim | Outcome | Said
KINDS: dict[str, type[Entry]] = {kind.__name__: kind for kind in (Claim, Outcome, Said)}


class Journal:
    """One part's journal: a line of JSON each, appended whole, so that several jobs may write and any process read."""

    def __init__(self, sweep: Path, part: int) -> None:
        self.path = sweep / f"part-{part}.jsonl"
        self._read_to = 0

    def append(self, entry: Entry) -> None:
        """Add a line. Raises `RecordError` when it cannot be written."""
        line = json.dumps({"kind": type(entry).__name__, **asdict(entry)}) + "\n"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RecordError(f"{self.path}: cannot write ({error.strerror})") from error

    def news(self) -> Iterator[Entry]:
        """The whole lines that were not read before."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                text = file.read()
        except OSError:
            return
        end = text.rfind(b"\n") + 1
        self._read_to += end
        for line in text[:end].splitlines():
            try:
                data = json.loads(line)
                yield KINDS[data.pop("kind")](**data)
            except (ValueError, TypeError, KeyError):
                continue  # torn by a full disk: its point counts as not measured


class Progress:
    """What the journals say of each point, as far as they were read."""

    def __init__(self) -> None:
        self.claims: dict[int, list[Claim]] = {}
        self.outcomes: dict[int, Outcome] = {}

    def add(self, entry: Entry) -> None:
        """One line more."""
        if isinstance(entry, Claim):
            self.claims.setdefault(entry.point, []).append(entry)
        elif isinstance(entry, Outcome):
            self.outcomes[entry.point] = entry


@dataclass(frozen=True)
class Standing:
    """How far a launched sweep has come, by its journals: it may be running, or have been killed.

    `begun` are points that a job has begun and not ended, `waiting` those that none has begun. A point that a later
    sweep has ended is in neither.
    """

    sweep: Path
    order: Order
    begun: tuple[int, ...]
    waiting: tuple[int, ...]


def unfinished_sweeps(paths: Sequence[Path]) -> list[Standing]:
    """The launched sweeps at or below these paths that lack records of points; what is unreadable is none."""
    found: list[Standing] = []
    ended: set[frozenset[str]] = set()  # in later sweeps
    files = {file for path in paths if path.is_dir() for file in path.rglob(ORDER)}
    for file in sorted(files, key=lambda file: file.parent.name, reverse=True):
        try:
            order = read_order(file.parent)
        except RecordError:
            continue
        progress = Progress()
        for part in range(len(order.parts)):
            for entry in Journal(file.parent, part).news():
                progress.add(entry)
        lacking = [
            point
            for point, overrides in enumerate(order.points)
            if point not in progress.outcomes and _measured_as(overrides) not in ended
        ]
        ended.update(_measured_as(order.points[point]) for point in progress.outcomes)
        if lacking:
            begun = tuple(point for point in lacking if point in progress.claims)
            found.append(Standing(file.parent, order, begun, tuple(each for each in lacking if each not in begun)))
    return found[::-1]


def _measured_as(overrides: Point) -> frozenset[str]:
    """What two sweeps call the same point."""
    return frozenset(each for each in overrides if each.partition("=")[0] not in ("jobs", "resume", "report", "title"))
