"""Cores that others keep busy are the machine's time less our own, over time enough to tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from kvbench.measuring.clocks import HostClock, ScriptedClock
from kvbench.measuring.environment import ForeignCpuLoad


class FakeMachine:
    """The CPU times of a machine and of this process, and a clock beside them. Everything began long ago."""

    def __init__(self) -> None:
        self.now_s = 5000.0
        self.times: dict[str, float] = {"user": 900.0, "system": 300.0, "idle": 7000.0, "iowait": 40.0}
        self.own: dict[str, float] = {"user": 200.0, "system": 100.0}

    def passes(self, seconds: float, own: dict[str, float] | None = None, **spent_s: float) -> None:
        """Wall time goes by; the whole machine spends CPU time by kind, of which some is ours."""
        self.now_s += seconds
        for kind, spent in spent_s.items():
            self.times[kind] = self.times.get(kind, 0.0) + spent
        for kind, spent in (own or {}).items():
            self.own[kind] += spent


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """In the place of psutil's."""
    fake = FakeMachine()
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(**fake.times))
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(cpu_times=lambda: SimpleNamespace(**fake.own)))
    return fake


def others_on(machine: FakeMachine) -> ForeignCpuLoad:
    """Begins to watch now."""
    clock: Any = HostClock()
    clock.now_ns = lambda: round(machine.now_s * 1e9)
    return ForeignCpuLoad(clock)


class TestBusyCores:
    def test_are_cpu_time_over_wall_time(self, machine: FakeMachine) -> None:
        others = others_on(machine)
        machine.passes(2.0, user=3.0, system=1.0, idle=4.0)
        assert pytest.approx(2.0) == others.busy()

    def test_are_of_others_only(self, machine: FakeMachine) -> None:
        others = others_on(machine)
        machine.passes(2.0, user=4.0, system=2.0, own={"user": 3.0, "system": 1.5})
        assert pytest.approx(0.75) == others.busy()

    def test_count_from_the_beginning_of_the_watch(self, machine: FakeMachine) -> None:
        machine.passes(2.0, user=100.0)
        others = others_on(machine)
        machine.passes(1.0, user=1.5, own={"user": 1.0})
        machine.passes(1.0, user=1.5, own={"user": 1.0})
        assert pytest.approx(0.5) == others.busy()

    @pytest.mark.parametrize("kind", ["user", "system", "nice", "irq", "softirq", "steal"])
    def test_are_busy_with_every_kind_of_work(self, machine: FakeMachine, kind: str) -> None:
        machine.times.setdefault(kind, 10.0)
        others = others_on(machine)
        machine.passes(2.0, **{kind: 3.0})
        assert pytest.approx(1.5) == others.busy()

    @pytest.mark.parametrize("kind", ["idle", "iowait", "guest", "guest_nice"])
    def test_are_not_idle_ones_or_those_that_wait_for_a_disk_or_are_counted_already(
        self, machine: FakeMachine, kind: str
    ) -> None:
        machine.times.setdefault(kind, 10.0)
        others = others_on(machine)
        machine.passes(2.0, **{kind: 3.0})
        assert 0.0 == others.busy()

    def test_are_never_less_than_none(self, machine: FakeMachine) -> None:
        others = others_on(machine)
        machine.passes(2.0, user=3.98, own={"user": 4.0})  # the two are not read at the same moment
        assert 0.0 == others.busy()


class TestTheAnswer:
    @pytest.mark.parametrize(("seconds", "known"), [(0.0, False), (0.03, False), (0.06, True), (10.0, True)])
    def test_is_none_when_the_time_was_too_short(self, machine: FakeMachine, seconds: float, known: bool) -> None:
        others = others_on(machine)
        machine.passes(seconds, user=2.0)
        assert known == (others.busy() is not None)

    def test_is_none_in_virtual_time(self, machine: FakeMachine) -> None:
        clock = ScriptedClock()
        others = ForeignCpuLoad(clock)
        clock.spend(10.0)
        machine.passes(10.0, user=20.0)
        assert others.busy() is None

    def test_is_told_by_the_real_system_too(self) -> None:
        clock = HostClock()
        others = ForeignCpuLoad(clock)
        clock.wait(0.06)
        busy = others.busy()
        assert busy is not None
        assert busy >= 0.0
