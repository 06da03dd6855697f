"""What other processes do with the CPU meanwhile."""

from __future__ import annotations

import psutil

from kvbench.measuring.clocks import Clock, ScriptedClock

SHORTEST_S = 0.05  # the system counts CPU time in hundredths of a second: below five of them it says nothing


class OtherCores:
    """CPU time of the whole machine less that of this process, from its making on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # What the machine does in virtual time is nothing to speak of.
        self._began = None if isinstance(clock, ScriptedClock) else self._now()

    def busy(self) -> float | None:
        """Cores kept busy by others on average; None when the time was too short, or is virtual."""
        if self._began is None:
            return None
        wall_s, all_s, own_s = (now - then for now, then in zip(self._now(), self._began, strict=True))
        return max(0.0, (all_s - own_s) / wall_s) if wall_s >= SHORTEST_S else None

    def _now(self) -> tuple[float, float, float]:
        machine, process = psutil.cpu_times(), psutil.Process().cpu_times()
        # A guest's time is within the user's; waiting for a disk keeps no core busy.
        all_s = machine.user + machine.system + getattr(machine, "nice", 0.0) + getattr(machine, "irq", 0.0)
        all_s += getattr(machine, "softirq", 0.0) + getattr(machine, "steal", 0.0)
        return self._clock.now_ns() * 1e-9, all_s, process.user + process.system
