"""Two commands measured in turns, a fresh process each time, so that both meet the same conditions of the machine.

The order within a pair changes from pair to pair (base new, new base, base new …): what drifts steadily meets both
alike. What a process has written counts when the process has ended well, and is moved to its place in one step.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from kvbench.errors import BadInput, KvbenchError
from kvbench.records.store import record_paths, replace_file
from kvbench.running.faults import stopped_by_signals
from kvbench.text import printable

PLACE = "{results}"  # in a command: the folder for its run
RUNNING = "running"  # the folder that the process at work writes to
FAILED = "failed"  # what the process that went wrong has left
PLAN = "ab.json"  # which two commands the folder is of
MEASURED = (0, 3)  # exit codes of a run: VALID, INVALID; `compare` judges both
GRACE_S = 10.0  # for a process that is told to end, to write its record

Told = Callable[[str], None]


class Unfinished(KvbenchError):
    """A command of an A/B did not measure: nothing can be compared."""

    exit_code = 4  # `compare`'s: not comparable, or unfinished


@dataclass(frozen=True)
class Side:
    """One of the two: its name, which is its folder too, a command for the shell, and where it is run."""

    name: str
    command: str
    folder: Path
    version: str  # what is measured, such as a commit: a folder of results is of one

    def line(self, results: Path) -> str:
        """The command with the folder for its run in it."""
        quoted = shlex.quote(str(results))
        if PLACE in self.command:
            return self.command.replace(PLACE, quoted)
        return f"{self.command} results_dir={quoted}"


def alternate(sides: Sequence[Side], pairs: int, root: Path, told: Told) -> None:
    """Run each side's command `pairs` times in turns; a run lies in `root/<side>/<number>`, its output beside it.

    What `root` holds already of the same two is not measured again. Raises `BadInput` when it holds anything else, and
    `Unfinished` when a command fails or writes no run. After Ctrl-C what is finished stays.
    """
    root = root.absolute()
    _require_same(sides, root)
    with stopped_by_signals():
        for number in range(1, pairs + 1):
            for side in sides if number % 2 else reversed(sides):
                place = root / side.name / f"{number:02}"
                if place.exists():
                    told(f"pair {number} of {pairs}: {side.name} was measured before")
                    continue
                seconds = _measured(side, root, place)
                told(f"pair {number} of {pairs}: {side.name} measured in {seconds:.0f} s")


def _measured(side: Side, root: Path, place: Path) -> float:
    """One process; seconds that it took. Its folder and its output are moved to `place` when it ended well."""
    running, failed = root / RUNNING, root / FAILED
    for left in (running, failed):
        shutil.rmtree(left, ignore_errors=True)
    running.mkdir(parents=True)
    log = running / "output.log"
    began = time.monotonic()
    with log.open("wb") as output, _ended_with_us(side, running, output) as process:
        code = process.wait()
    seconds = time.monotonic() - began
    runs = record_paths([running])
    if code not in MEASURED or not runs:
        running.rename(failed)
        reason = f"ended with exit code {code}" if code not in MEASURED else "wrote no run into the folder it was given"
        raise Unfinished(
            f"{side.name}: the command {reason}: {printable(_last_line(failed / log.name))}"
            f" (all it printed: {failed / log.name}; finished pairs are kept in {root})"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    running.rename(place)
    return seconds


@contextmanager
def _ended_with_us(side: Side, running: Path, output: object) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a side; whatever ends us ends it and its children, and removes what it has left half done."""
    process = subprocess.Popen(  # noqa: S602 - the command is the user's own, and may be a line for the shell
        side.line(running),
        shell=True,
        cwd=side.folder,
        stdin=subprocess.DEVNULL,
        stdout=output,  # type: ignore[call-overload]  # a file
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    except BaseException:
        _end(process.pid)
        process.wait()
        shutil.rmtree(running, ignore_errors=True)
        raise


def _end(pid: int) -> None:
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for signal in ("terminate", "kill"):
        for each in family:
            try:
                getattr(each, signal)()
            except psutil.NoSuchProcess:
                continue
        _, family = psutil.wait_procs(family, timeout=GRACE_S)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def _require_same(sides: Sequence[Side], root: Path) -> None:
    """Write what the folder is of; raise `BadInput` when it is of something else."""
    plan = {side.name: {"command": side.command, "version": side.version} for side in sides}
    written = root / PLAN
    if written.exists():
        try:
            before = json.loads(written.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if before != plan:
            raise BadInput(f"{root}: holds another comparison ({PLAN} says of what); name another folder")
        return
    if root.exists() and any(root.iterdir()):
        raise BadInput(f"{root}: is not empty and holds no comparison; name another folder")
    root.mkdir(parents=True, exist_ok=True)
    replace_file(written, json.dumps(plan, indent=1).encode())
