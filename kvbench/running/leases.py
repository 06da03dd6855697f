"""One run at a time on a device: leases, which the operating system takes back however their holder ends.

A lease is a locked file in a folder of the user's on this host: one per GPU, by its UUID, and one per CPU core. Beside
it a second file says who holds it. Whoever takes a lease first passes the host's gate, a lock that is held for the
moment of taking; a run that wants the whole host keeps the gate and waits until nobody holds a lease.
"""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from kvbench.errors import reason_of
from kvbench.records.sharing import Holder, Sharing, Waiting

FOLDER = "KVBENCH_LEASES"  # the variable that names another folder
POLL_S = 0.1
PASSING_S = 2.0  # for the gate, which others hold for milliseconds
TELL_EVERY_S = 60.0
NOT_IN_A_NAME = re.compile(r"[^\w.-]+")

UNKNOWN = Holder("?", "?", 0, "?", "?")

Tell = Callable[[Waiting | Sharing], None]


@dataclass(frozen=True)
class Place:
    """What a run measures on: how people call it, and the leases that it takes, which are names on this host."""

    device: str
    leases: tuple[str, ...]


def cpu_place() -> Place:
    """The CPU cores that this process may use: runs on other cores of the host do not wait for each other."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return Place("cpu", tuple(f"{platform.node()}-core-{core}" for core in cores))


SCRIPTED_DEVICE = "KVBENCH_SCRIPTED_DEVICE"  # the variable that gives a worker its pretended device, by index


def scripted_lease(index: int) -> str:
    """The lease of a pretended device."""
    return f"{platform.node()}-scripted-{index}"


def lease_folder() -> Path:
    """Where the leases of this user are, on this host. It is the same for a terminal, a service and a batch job."""
    named = os.environ.get(FOLDER)
    if named:
        return Path(named)
    user = os.getuid() if hasattr(os, "getuid") else re.sub(NOT_IN_A_NAME, "_", Path.home().name)
    return Path(tempfile.gettempdir()) / f"kvbench-leases-{user}"


@contextmanager
def leased(place: Place, run: str, tell: Tell, *, whole_host: bool = False) -> Iterator[None]:
    """Have a place to oneself, or with `whole_host` all of the host, for the time of the block.

    `tell` hears of whom it waits for, at once and then every minute; when the block begins, how long it waited; and
    when it ends, who else measured on this host meanwhile: of each other device the last run. Where no lock can be
    had, as on a file system without them, the block runs all the same, and `tell` hears why it is not protected.
    """
    try:
        folder = _own_folder()
    except OSError as error:
        tell(Sharing(0.0, None, f"no lease: {lease_folder()}: {reason_of(error)}"))
        yield
        return
    began_s = time.monotonic()
    with ExitStack() as held:
        taking = _Taking(folder, place, run, whole_host, held)
        told_s: float | None = None
        while not taking.attempt():
            if told_s is None or time.monotonic() - told_s >= TELL_EVERY_S:
                tell(Waiting(place.device, taking.in_the_way))
                told_s = time.monotonic()
            time.sleep(POLL_S)
        tell(Sharing(time.monotonic() - began_s, None))
        began = _now()
        yield
        tell(Sharing(0.0, taking.neighbours(began)))


class _Taking:
    """One run on its way to its leases, and what it has of them, which `held` gives back."""

    def __init__(self, folder: Path, place: Place, run: str, whole_host: bool, held: ExitStack) -> None:
        self._folder = folder
        self._place = place
        self._whole_host = whole_host
        self._held = held
        self._names = tuple(map(_file_name, place.leases))
        self._gate = _file_name(f"{platform.node()}-gate")
        self._holder = Holder(
            "host" if whole_host else place.device,
            *(run, os.getpid(), platform.node(), _now()),
        )
        self._has_gate = False
        self.in_the_way: Holder | None = None

    def attempt(self) -> bool:
        """Take everything or nothing, but for the gate of a run that wants the host, which is kept once it is had."""
        with ExitStack() as passing:
            if not self._has_gate:
                gate = _lock(self._folder, self._gate, PASSING_S)
                if gate is None:
                    self.in_the_way = _holder(self._folder, self._gate)
                    return False
                if self._whole_host:
                    self._keep(self._held, gate, self._gate)
                    self._has_gate = True
                else:
                    passing.callback(gate.release)
            if self._whole_host:
                self.in_the_way = self._busy()
                if self.in_the_way is not None:
                    return False
            with ExitStack() as taken:
                for name in self._names:
                    lock = _lock(self._folder, name)
                    if lock is None:
                        self.in_the_way = _holder(self._folder, name)
                        return False
                    self._keep(taken, lock, name)
                self._held.enter_context(taken.pop_all())
            return True

    def neighbours(self, began: str) -> tuple[Holder, ...]:
        """Runs that held other leases of this folder at some time since then: of each lease the last."""
        found: dict[tuple[int, str], Holder] = {}
        gate = None if self._has_gate else _lock(self._folder, self._gate, POLL_S)
        try:
            for name in self._other_names():
                holder = _holder(self._folder, name, ended=True)
                # One that was killed has no end: it counts if it began meanwhile, or goes on.
                if holder is not None and (max(holder.since, holder.until or "") > began or self._is_busy(name)):
                    found[holder.pid, holder.run] = holder
        finally:
            if gate is not None:
                gate.release()
        return tuple(found.values())

    def _busy(self) -> Holder | None:
        """Somebody who holds a lease, but for this run. Who looks should have the gate: looking is locking."""
        busy = next((name for name in self._other_names() if self._is_busy(name)), None)
        return None if busy is None else _holder(self._folder, busy) or UNKNOWN

    def _other_names(self) -> list[str]:
        names = [file.name.removesuffix(".lock") for file in sorted(self._folder.glob("*.lock"))]
        return [name for name in names if name != self._gate and not (name in self._names and self._is_mine(name))]

    def _is_busy(self, name: str) -> bool:
        lock = _lock(self._folder, name)
        if lock is not None:
            lock.release()
        return lock is None

    def _is_mine(self, name: str) -> bool:
        return _holder(self._folder, name) == self._holder

    def _keep(self, stack: ExitStack, lock: FileLock, name: str) -> None:
        """Hold a lock until the stack ends, and say meanwhile who does."""
        stack.callback(lock.release)
        self._say(name, self._holder)
        stack.callback(lambda: self._say(name, replace(self._holder, until=_now())))

    def _say(self, name: str, holder: Holder) -> None:
        said = self._folder / f"{name}.json"
        temporary = said.with_name(f".{said.name}.{os.getpid()}")
        with suppress(OSError):  # a full disk: the lock counts, and who waits does not hear for whom
            temporary.write_text(json.dumps(asdict(holder)), encoding="utf-8")
            temporary.replace(said)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _own_folder() -> Path:
    """The folder, made if need be. Raises `OSError` where it cannot be used, or belongs to somebody else."""
    folder = lease_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"belongs to another user; name a folder of your own in {FOLDER}")
    return folder


def _lock(folder: Path, name: str, timeout_s: float = 0.0) -> FileLock | None:
    lock = FileLock(folder / f"{name}.lock", thread_local=False)
    try:
        lock.acquire(timeout=timeout_s, poll_interval=0.01)
    except Timeout:
        return None
    return lock


def _holder(folder: Path, name: str, *, ended: bool = False) -> Holder | None:
    """Who holds a lease, as they say themselves; with `ended`, also who held it last."""
    try:
        holder = Holder(**json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return holder if ended or holder.until is None else None


def _file_name(name: str) -> str:
    return re.sub(NOT_IN_A_NAME, "_", name)


def seat_of(devices: Sequence[str], held: ExitStack) -> int | None:
    """Which of these devices, by their leases, is no other process's for its lifetime: ours until `held` ends.

    A seat keeps the workers of a sweep apart from each other, each with its model on its own device; it is no lease,
    and whoever has one waits for its device like anybody. None where all are taken.
    """
    for index, device in enumerate(devices):
        try:
            lock = _lock(_subfolder("seats"), _file_name(device))
        except OSError:
            return None
        if lock is not None:
            held.callback(lock.release)
            return index
    return None


class Exclusive:
    """A name on this host that one process of the user's has at a time. A context manager, which waits for it.

    Where no lock can be had, everybody has it.
    """

    def __init__(self, name: str) -> None:
        self._name = _file_name(name)
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with suppress(OSError):
            lock = _lock(_subfolder("sweeps"), self._name, -1.0)
            assert lock is not None
            self._held.callback(lock.release)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def is_held(self) -> bool:
        """Whether some process has it now."""
        try:
            lock = _lock(_subfolder("sweeps"), self._name)
        except OSError:
            return False
        if lock is None:
            return True
        lock.release()
        return False


def _subfolder(name: str) -> Path:
    folder = _own_folder() / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
