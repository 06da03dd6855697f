"""Whether the device was slowed down while a block ran. Pure: two readings and the time between them."""

from __future__ import annotations

from kvbench.measuring.readings import DeviceReading

# A device that gets too hot or whose supply sags is not the device that was to be measured. Its power cap is another
# thing: it belongs to the device, and a mode that draws more feels it more.
THROTTLES = ("hw_slowdown", "sw_thermal", "hw_thermal", "power_brake", "thermal", "board_limit", "reliability")
POWER_CAP = "power_cap"
LEAST_SHARE = 0.01  # of a block's time: what moves no figure by more than the band of no change


def limits_between(before: DeviceReading | None, after: DeviceReading | None, elapsed_s: float) -> tuple[str, ...]:
    """Everything that held the clock down: seen at the end, or by its counter for more than 1 % of the time.

    What was seen at the beginning only belongs to the block before.
    """
    if after is None:
        return ()
    causes = set(after.limits or ())
    if before is not None and before.limited_s is not None and after.limited_s is not None:
        causes |= {
            cause
            for cause, total_s in after.limited_s.items()
            if total_s - before.limited_s.get(cause, total_s) > LEAST_SHARE * elapsed_s
        }
    return tuple(sorted(causes))


def throttles(limits: tuple[str, ...]) -> tuple[str, ...]:
    """Those of them that make a block another device's."""
    return tuple(cause for cause in limits if cause in THROTTLES)
