"""TTFT and decode are regions of their own, and the throughput lane waits for nothing between its steps."""

from __future__ import annotations

import pytest

from kvbench.measuring.clocks import ScriptedClock
from kvbench.running.visits import Stopwatch


class DeviceLikeClock(ScriptedClock):
    """Host and device apart: the host submits in no time, the device finishes when someone waits for it."""

    has_device_timeline = True

    def __init__(self) -> None:
        super().__init__()
        self.device_s = 0.0
        self.waits = 0

    def work(self, seconds: float) -> None:
        self.device_s = max(self.device_s, self.mark_host()) + seconds

    def mark_host(self) -> float:
        return self.now_ns() * 1e-9

    def synchronise(self) -> None:
        self.waits += 1
        if self.device_s > self.mark_host():
            self.spend(self.device_s - self.mark_host())

    def mark(self) -> float:
        return max(self.device_s, self.mark_host())


def decode(clock: DeviceLikeClock, stopwatch: Stopwatch, prefill_s: float, steps: list[float]) -> None:
    stopwatch.start()
    clock.work(prefill_s)
    stopwatch.on_token(0, None)
    for index, seconds in enumerate(steps, start=1):
        clock.work(seconds)
        stopwatch.on_token(index, None)


class TestThroughputLane:
    def test_separates_the_prefill_from_the_steps(self) -> None:
        clock = DeviceLikeClock()
        stopwatch = Stopwatch(clock, per_step=False)
        decode(clock, stopwatch, 0.5, [0.1, 0.2])
        timing = stopwatch.finish()
        assert timing.ttft_s == pytest.approx(0.5)
        assert timing.decode_s == pytest.approx(0.3)
        assert timing.decode_device_s == pytest.approx(0.3)
        assert timing.step_s is None

    def test_synchronises_at_the_ends_of_its_regions_only(self) -> None:
        clock = DeviceLikeClock()
        stopwatch = Stopwatch(clock, per_step=False)
        decode(clock, stopwatch, 0.5, [0.1] * 50)
        stopwatch.finish()
        assert clock.waits == 3  # before the prefill, after it, after the last step

    def test_tells_how_long_the_host_took_to_submit(self) -> None:
        clock = DeviceLikeClock()
        stopwatch = Stopwatch(clock, per_step=False)
        stopwatch.start()
        stopwatch.on_token(0, None)
        clock.work(1.0)
        clock.spend(0.25)  # the host prepares the step while the device works
        stopwatch.on_token(1, None)
        timing = stopwatch.finish()
        assert timing.decode_enqueue_s == pytest.approx(0.25)
        assert timing.decode_s == pytest.approx(1.0)


class TestStepsLane:
    def test_gives_every_step_its_own_time_without_more_waiting(self) -> None:
        clock = DeviceLikeClock()
        stopwatch = Stopwatch(clock, per_step=True)
        decode(clock, stopwatch, 0.5, [0.1, 0.3, 0.2])
        timing = stopwatch.finish()
        assert timing.step_s == pytest.approx((0.1, 0.3, 0.2))
        assert clock.waits == 3

    def test_of_a_run_that_ends_with_its_first_token_has_no_steps(self) -> None:
        clock = DeviceLikeClock()
        stopwatch = Stopwatch(clock, per_step=True)
        decode(clock, stopwatch, 0.5, [])
        assert stopwatch.finish().step_s == ()
