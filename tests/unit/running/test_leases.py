"""A device has one run at a time, whoever waits knows for whom, and nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kvbench.records.sharing import Sharing, Waiting
from kvbench.running import leases
from kvbench.running.leases import Exclusive, Place, cpu_place, leased, seat_of

FIRST, SECOND, BOTH = Place("cuda:0", ("GPU-0",)), Place("cuda:1", ("GPU-1",)), Place("both", ("GPU-0", "GPU-1"))
HOLDS = """
import sys, time
from kvbench.running.leases import Place, leased
with leased(Place("cuda:0", ("GPU-0",)), "qwen/run-1", lambda told: None):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leases.FOLDER, str(tmp_path / "leases"))
    monkeypatch.setattr(leases, "POLL_S", 0.005)
    monkeypatch.setattr(leases, "PASSING_S", 0.05)


@contextmanager
def held_by_another_process() -> Iterator[subprocess.Popen[str]]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert "held\n" == holder.stdout.readline()
        yield holder
    finally:
        holder.kill()
        holder.communicate()


class Attempt(threading.Thread):
    """A run in a thread that wants a place, holds it until it is let go, and keeps what it was told."""

    def __init__(self, place: Place, run: str = "late", *, whole_host: bool = False) -> None:
        super().__init__(daemon=True)
        self.place, self.run_name, self.whole_host = place, run, whole_host
        self.told: list[Waiting | Sharing] = []
        self.heard, self.has_it, self.let_go = threading.Event(), threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with leased(self.place, self.run_name, self.hear, whole_host=self.whole_host):
            self.has_it.set()
            assert self.let_go.wait(30)

    def hear(self, told: Waiting | Sharing) -> None:
        self.told.append(told)
        self.heard.set()

    def waits(self) -> Waiting:
        assert self.heard.wait(30)
        assert isinstance(self.told[0], Waiting), self.told
        assert not self.has_it.is_set()
        return self.told[0]

    def ends(self) -> None:
        assert self.has_it.wait(30)
        self.let_go.set()
        self.join(30)


def test_one_device_has_one_run_and_the_other_waits_for_it_by_name() -> None:
    first = Attempt(FIRST, "qwen/run-1")
    assert first.has_it.wait(30)
    second = Attempt(FIRST, "qwen/run-2")
    waiting = second.waits()
    assert waiting.holder is not None
    assert ("cuda:0", "qwen/run-1", os.getpid()) == (waiting.device, waiting.holder.run, waiting.holder.pid)
    first.ends()
    second.ends()
    assert [Waiting, Sharing, Sharing] == [type(each) for each in second.told]
    assert second.told[1].waited_s > 0  # type: ignore[union-attr]


def test_who_waits_long_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "TELL_EVERY_S", 0.01)
    first = Attempt(FIRST)
    assert first.has_it.wait(30)
    second = Attempt(FIRST)
    while len(second.told) < 3:
        second.heard.clear()
        assert second.heard.wait(30)
    first.ends()
    second.ends()


def test_two_devices_do_not_wait_and_know_of_each_other() -> None:
    first, second = Attempt(FIRST, "qwen/run-1"), Attempt(SECOND, "qwen/run-2")
    assert first.has_it.wait(30)
    assert second.has_it.wait(30)
    first.ends()  # before the second does, which is told of it all the same
    second.ends()
    for attempt, other in ((first, "qwen/run-2"), (second, "qwen/run-1")):
        assert [Sharing, Sharing] == [type(each) for each in attempt.told]
        neighbours = attempt.told[-1].neighbours  # type: ignore[union-attr]
        assert neighbours is not None
        assert [other] == [each.run for each in neighbours]


def test_a_run_that_ended_before_is_no_neighbour() -> None:
    Attempt(SECOND, "before").ends()
    late = Attempt(FIRST)
    late.ends()
    assert () == late.told[-1].neighbours  # type: ignore[union-attr]


def test_a_place_of_several_devices_is_taken_whole_or_not_at_all() -> None:
    second = Attempt(SECOND)
    assert second.has_it.wait(30)
    both = Attempt(BOTH)
    both.waits()
    first = Attempt(FIRST)  # which the waiting one must not keep
    first.ends()
    second.ends()
    both.ends()


def test_a_run_that_wants_the_host_waits_for_everybody_and_lets_nobody_in() -> None:
    early = Attempt(SECOND, "early")
    assert early.has_it.wait(30)
    alone = Attempt(FIRST, "alone", whole_host=True)
    assert (holder := alone.waits().holder) is not None
    assert "early" == holder.run
    late = Attempt(Place("cuda:7", ("GPU-7",)))  # a free device: it is the host that is not
    assert (holder := late.waits().holder) is not None
    assert ("host", "alone") == (holder.device, holder.run)
    early.ends()
    assert alone.has_it.wait(30)
    assert not late.has_it.is_set()
    alone.ends()
    late.ends()
    assert () == alone.told[-1].neighbours  # type: ignore[union-attr]


def test_the_lease_of_a_process_that_was_killed_is_free() -> None:
    with held_by_another_process() as holder:
        late = Attempt(FIRST)
        assert (other := late.waits().holder) is not None
        assert holder.pid == other.pid
        os.kill(holder.pid, signal.SIGKILL)
        late.ends()


def test_a_folder_that_cannot_be_used_costs_the_protection_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(leases.FOLDER, str(tmp_path / "file"))
    told: list[Waiting | Sharing] = []
    with leased(FIRST, "run", told.append):
        pass
    assert str(tmp_path / "file") in str(told[0].unleased)  # type: ignore[union-attr]


def test_the_cpu_is_leased_by_core() -> None:
    assert len(os.sched_getaffinity(0)) == len(cpu_place().leases) == len(set(cpu_place().leases))


def test_a_seat_is_for_as_long_as_its_holder_wants_it() -> None:
    with ExitStack() as first, ExitStack() as second, ExitStack() as third:
        assert 0 == seat_of(["GPU-0", "GPU-1"], first)
        assert 1 == seat_of(["GPU-0", "GPU-1"], second)
        assert seat_of(["GPU-0", "GPU-1"], third) is None
        first.close()
        assert 0 == seat_of(["GPU-0", "GPU-1"], third)


def test_a_name_is_held_by_one_and_seen_by_others() -> None:
    assert not Exclusive("lane").is_held()
    with Exclusive("lane"):
        assert Exclusive("lane").is_held()
    assert not Exclusive("lane").is_held()
