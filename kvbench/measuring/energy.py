"""Energy of repeated work, from a cumulative counter that moves about ten times a second."""

from __future__ import annotations

from collections.abc import Callable

from kvbench.measuring.clocks import Clock
from kvbench.measuring.sensors import DeviceSensors
from kvbench.records.untimed import EnergyWindow

IDLE_S = 1.0  # of doing nothing, for the baseline
SHORTEST_S = 1.0  # ten movements of the counter: a window of less is not worth a figure
POLL_S = 0.002  # how closely a movement of the counter is timed; asking takes NVML about 4 ms besides
PATIENCE_S = 1.0  # a counter that stands still for so long is not counting


class EnergyMeter:
    """One device's counter. Windows begin and end where the counter has just moved."""

    def __init__(self, sensors: DeviceSensors, clock: Clock) -> None:
        self._sensors = sensors
        self._clock = clock
        self.reason: str | None = None  # why there is no figure

    def idle_watts(self) -> float | None:
        """Mean power of the device while nothing runs, or None with `reason`."""
        self._clock.synchronise()
        begin = self._movement()
        if begin is None:
            return None
        self._clock.wait(IDLE_S)
        end = self._movement()
        return None if end is None else (end[1] - begin[1]) / (end[0] - begin[0])

    def window(self, arm: int, work: Callable[[], int], seconds: float, idle_watts: float | None) -> EnergyWindow:
        """Repeat `work`, which returns the tokens it made, until `seconds` have passed.

        The window is from a movement of the counter, where work begins, to the end of the work. The counter is read at
        its next movement; the device idles between the two, and that share is taken off at `idle_watts`.
        """
        begin = self._movement() if idle_watts is not None else None
        if begin is None or idle_watts is None:
            return EnergyWindow(arm, None, None, 0, idle_watts, self.reason)
        tokens = 0
        ended_s = begin[0]
        while ended_s - begin[0] < seconds:
            tokens += work()
            self._clock.synchronise()
            ended_s = self._now_s()
            if ended_s == begin[0]:
                return EnergyWindow(arm, None, None, 0, idle_watts, "a generation takes no time")
        end = self._movement()
        if end is None:
            return EnergyWindow(arm, None, None, 0, idle_watts, self.reason)
        window_s = ended_s - begin[0]
        if window_s < SHORTEST_S:
            reason = f"the window of {window_s:.2f} s is too short for a counter that moves ten times a second"
            return EnergyWindow(arm, None, window_s, tokens, idle_watts, reason)
        joules = end[1] - begin[1] - idle_watts * (end[0] - ended_s)
        return EnergyWindow(arm, joules, window_s, tokens, idle_watts)

    def _movement(self) -> tuple[float, float] | None:
        """Wait for the counter's next movement: (seconds, joules), or None with `reason`."""
        first = self._sensors.energy_j()
        began_s = self._now_s()
        while first is not None:
            self._clock.wait(POLL_S)
            joules = self._sensors.energy_j()
            if joules is None:
                break
            if joules > first:
                return self._now_s(), joules
            if self._now_s() - began_s > PATIENCE_S:
                self.reason = f"the device's energy counter did not move for {PATIENCE_S:g} s"
                return None
        self.reason = self._sensors.reason or "the device has no energy counter"
        return None

    def _now_s(self) -> float:
        return self._clock.now_ns() * 1e-9
