"""Energy is read between movements of a slow counter; where it cannot be read there is a reason and no figure."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kvbench.measuring.clocks import ScriptedClock
from kvbench.measuring.sensors import EnergyMeter
from kvbench.records.timings import DeviceReading

IDLE_W, WORKING_W = 50.0, 250.0
TICK_S = 0.1
POLLED_S = 0.002  # a movement of the counter is noticed so much late at most


class FakeCounter:
    """A counter that shows at each tick what was spent until then, in the time of its clock.

    It starts away from a tick, as every real one does. `silent_from_s` and `stalled_from_s` are times from which it
    does not answer or does not move.
    """

    def __init__(self, clock: ScriptedClock, silent_from_s: float = math.inf, stalled_from_s: float = math.inf) -> None:
        self.reason: str | None = None
        self._clock = clock
        self._silent_from_s = silent_from_s
        self._stalled_from_s = stalled_from_s
        self._spent: list[tuple[float, float]] = []  # (until, watts)
        clock.on_spend = self._spend

    def _spend(self, seconds: float, working: bool) -> None:
        self._spent.append((self._clock.mark(), WORKING_W if working else IDLE_W))

    def _joules_until(self, time_s: float) -> float:
        joules, since_s = 1000.0, 0.0
        for until_s, watts in self._spent:
            joules += watts * max(0.0, min(until_s, time_s) - since_s)
            since_s = until_s
        return joules

    def energy_j(self) -> float | None:
        now_s = self._clock.mark()
        if now_s >= self._silent_from_s:
            self.reason = "the device has fallen off the bus"
            return None
        now_s = min(now_s, self._stalled_from_s)
        return self._joules_until(math.floor((now_s + 0.03) / TICK_S + 1e-9) * TICK_S - 0.03)

    def used_bytes(self) -> None: ...

    def reading(self) -> DeviceReading | None: ...

    def processes(self) -> tuple[int, ...] | None: ...

    def facts(self) -> dict[str, Any]:
        return {}


class NoCounter(FakeCounter):
    """A device that has none, with or without saying why."""

    def __init__(self, clock: ScriptedClock, reason: str | None) -> None:
        super().__init__(clock, silent_from_s=0.0)
        self._why = reason

    def energy_j(self) -> None:
        self.reason = self._why


class Work:
    """So many seconds and so many tokens a call."""

    def __init__(self, clock: ScriptedClock, seconds: float, tokens: int = 7) -> None:
        self.began_s: list[float] = []
        self._clock = clock
        self._seconds = seconds
        self._tokens = tokens

    def __call__(self) -> int:
        self.began_s.append(self._clock.mark())
        self._clock.spend(self._seconds)
        return self._tokens


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock()


class TestIdlePower:
    def test_is_the_mean_between_two_movements(self, clock: ScriptedClock) -> None:
        assert pytest.approx(IDLE_W) == EnergyMeter(FakeCounter(clock), clock).idle_watts()

    def test_is_that_of_doing_nothing_whatever_was_done_before(self, clock: ScriptedClock) -> None:
        counter = FakeCounter(clock)
        clock.spend(5.005)
        # The first movement shows up to a tick of work yet, and only its own end counts.
        assert pytest.approx(IDLE_W) == EnergyMeter(counter, clock).idle_watts()

    def test_takes_more_than_a_second_of_waiting(self, clock: ScriptedClock) -> None:
        EnergyMeter(FakeCounter(clock), clock).idle_watts()
        assert 1.0 < clock.mark() < 1.0 + 2 * TICK_S + 0.1

    @pytest.mark.parametrize("silent_from_s", [0.0, 0.05, 0.5])
    def test_of_a_counter_that_falls_silent_is_unknown_and_says_why(
        self, clock: ScriptedClock, silent_from_s: float
    ) -> None:
        meter = EnergyMeter(FakeCounter(clock, silent_from_s=silent_from_s), clock)
        assert (None, "the device has fallen off the bus") == (meter.idle_watts(), meter.reason)

    def test_of_a_counter_that_stands_still_is_unknown_and_says_why(self, clock: ScriptedClock) -> None:
        meter = EnergyMeter(FakeCounter(clock, stalled_from_s=0.0), clock)
        assert (None, "the device's energy counter did not move for 1 s") == (meter.idle_watts(), meter.reason)


class TestAWindow:
    def test_is_from_a_movement_of_the_counter_to_the_end_of_the_work(self, clock: ScriptedClock) -> None:
        work = Work(clock, 1.25)
        window = EnergyMeter(FakeCounter(clock), clock).window(0, work, 1.0, IDLE_W)
        (began_s,) = work.began_s
        # The counter moves at 0.07, 0.17, …; it was at rest until the work began.
        assert 0.07 <= began_s <= 0.07 + POLLED_S
        assert pytest.approx(1.25, abs=1e-8) == window.window_s

    def test_has_the_energy_of_the_work_without_the_idle_time_after_it(self, clock: ScriptedClock) -> None:
        # 1.25 s end in the middle of a tick, so the device idles until the counter moves again.
        window = EnergyMeter(FakeCounter(clock), clock).window(0, Work(clock, 1.25), 1.0, IDLE_W)
        late_j = IDLE_W * POLLED_S  # the two ends of the window are noticed late by as much at most
        assert pytest.approx(WORKING_W * 1.25, abs=2 * late_j) == window.joules

    @pytest.mark.parametrize("idle_watts", [0.0, 200.0])
    def test_loses_the_idle_share_at_the_power_that_was_found(self, clock: ScriptedClock, idle_watts: float) -> None:
        # Of 1.255 s from the movement at 0.07 s: the next movement is 0.045 s after the end.
        window = EnergyMeter(FakeCounter(clock), clock).window(0, Work(clock, 1.255), 1.0, idle_watts)
        expected = WORKING_W * 1.255 + (IDLE_W - idle_watts) * 0.045
        assert pytest.approx(expected, abs=2 * POLLED_S * max(IDLE_W, idle_watts)) == window.joules

    def test_keeps_the_arm_and_the_idle_power(self, clock: ScriptedClock) -> None:
        window = EnergyMeter(FakeCounter(clock), clock).window(3, Work(clock, 1.0), 1.0, IDLE_W)
        assert (3, IDLE_W, None) == (window.arm, window.idle_watts, window.reason)

    @pytest.mark.parametrize(("seconds", "calls"), [(1.0, 4), (2.0, 7), (2.05, 7), (2.15, 8)])
    def test_is_filled_with_whole_pieces_of_work_and_counts_their_tokens(
        self, clock: ScriptedClock, seconds: float, calls: int
    ) -> None:
        work = Work(clock, 0.3, tokens=11)
        window = EnergyMeter(FakeCounter(clock), clock).window(0, work, seconds, IDLE_W)
        assert (calls, 11 * calls) == (len(work.began_s), window.new_tokens)
        assert pytest.approx(0.3 * calls, abs=1e-8) == window.window_s
        assert pytest.approx(WORKING_W * 0.3 * calls, abs=2 * IDLE_W * POLLED_S) == window.joules

    def test_waits_for_the_device_before_it_looks_at_the_time(self, clock: ScriptedClock) -> None:
        class Behind(ScriptedClock):
            """Work lasts half a second longer than its call."""

            def synchronise(self) -> None:
                self.spend(0.5)

        behind = Behind()
        window = EnergyMeter(FakeCounter(behind), behind).window(0, Work(behind, 1.0), 1.0, IDLE_W)
        assert pytest.approx(1.5, abs=1e-8) == window.window_s


class TestNoFigure:
    def test_comes_of_a_window_that_is_too_short_for_the_counter(self, clock: ScriptedClock) -> None:
        window = EnergyMeter(FakeCounter(clock), clock).window(1, Work(clock, 0.3), 0.5, IDLE_W)
        assert (None, "the window of 0.60 s is too short for a counter that moves ten times a second") == (
            window.joules,
            window.reason,
        )
        assert (1, 14) == (window.arm, window.new_tokens)

    def test_comes_of_a_counter_that_stood_still_before_the_work(self, clock: ScriptedClock) -> None:
        work = Work(clock, 1.0)
        window = EnergyMeter(FakeCounter(clock, stalled_from_s=0.0), clock).window(0, work, 1.0, IDLE_W)
        assert (None, "the device's energy counter did not move for 1 s") == (window.joules, window.reason)
        assert [] == work.began_s

    def test_comes_of_a_counter_that_stood_still_after_the_work(self, clock: ScriptedClock) -> None:
        window = EnergyMeter(FakeCounter(clock, stalled_from_s=1.2), clock).window(0, Work(clock, 3.0), 1.0, IDLE_W)
        assert (None, "the device's energy counter did not move for 1 s") == (window.joules, window.reason)

    @pytest.mark.parametrize("silent_from_s", [0.05, 0.5])
    def test_comes_of_a_counter_that_vanishes(self, clock: ScriptedClock, silent_from_s: float) -> None:
        counter = FakeCounter(clock, silent_from_s=silent_from_s)
        window = EnergyMeter(counter, clock).window(0, Work(clock, 1.0), 1.0, IDLE_W)
        assert (None, IDLE_W, "the device has fallen off the bus") == (
            window.joules,
            window.idle_watts,
            window.reason,
        )

    @pytest.mark.parametrize(
        ("why", "reason"), [("NVML says no", "NVML says no"), (None, "the device has no energy counter")]
    )
    def test_comes_of_no_counter(self, clock: ScriptedClock, why: str | None, reason: str) -> None:
        meter, work = EnergyMeter(NoCounter(clock, why), clock), Work(clock, 1.0)
        assert (None, reason) == (meter.idle_watts(), meter.reason)
        window = meter.window(0, work, 1.0, None)
        assert (None, None, 0, reason) == (window.joules, window.window_s, window.new_tokens, window.reason)
        assert [] == work.began_s

    def test_comes_of_an_idle_power_that_is_unknown(self, clock: ScriptedClock) -> None:
        meter, work = EnergyMeter(FakeCounter(clock), clock), Work(clock, 1.0)
        meter.reason = "not measured"
        window = meter.window(0, work, 1.0, None)
        assert (None, "not measured", [], 0.0) == (window.joules, window.reason, work.began_s, clock.mark())

    def test_comes_of_work_that_takes_no_time_and_it_ends(self, clock: ScriptedClock) -> None:
        work = Work(clock, 0.0)
        window = EnergyMeter(FakeCounter(clock), clock).window(0, work, 1.0, IDLE_W)
        assert (None, None, 0, 1) == (window.joules, window.window_s, window.new_tokens, len(work.began_s))

    def test_of_one_arm_is_none_of_the_next(self, clock: ScriptedClock) -> None:
        meter = EnergyMeter(FakeCounter(clock), clock)
        windows = [meter.window(arm, Work(clock, seconds), 1.0, IDLE_W) for arm, seconds in enumerate((0.0, 1.25))]
        assert [True, False] == [window.joules is None for window in windows]


@pytest.mark.parametrize("seconds", [0.4, 0.7])
def test_idle_power_and_window_of_one_meter_make_the_energy_of_a_token(clock: ScriptedClock, seconds: float) -> None:
    meter = EnergyMeter(FakeCounter(clock), clock)
    window = meter.window(0, Work(clock, seconds, tokens=10), 3.0, meter.idle_watts())
    assert window.joules is not None
    assert pytest.approx(WORKING_W * seconds / 10, rel=1e-3) == window.joules / window.new_tokens
