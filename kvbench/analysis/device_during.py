"""The device over the blocks: clocks, power, temperature, and what held it back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kvbench.records.evidence import DeviceDuring
from kvbench.records.timings import Block, limits_between


def device_during(blocks: Sequence[Block]) -> DeviceDuring | None:
    """A summary of the readings around all blocks, those included that another stands for; None without readings."""
    readings = [each for block in blocks for each in (block.device_before, block.device_after) if each is not None]
    if not readings:
        return None
    limits: Counter[str] = Counter()
    for block in blocks:
        limits.update(limits_between(block.device_before, block.device_after, block.elapsed_s))
    # A device that idles before the first block has its clock down; what counts is where the blocks end.
    ends = [block.device_after for block in blocks if block.device_after is not None]
    clocks = [each.sm_clock_mhz for each in ends if each.sm_clock_mhz is not None]
    power = [each.power_w for each in readings if each.power_w is not None]
    temperatures = [each.temperature_c for each in readings if each.temperature_c is not None]
    throttled = {block.index for block in blocks if block.throttled}
    repeated = {block.repeats for block in blocks if block.repeats is not None}
    return DeviceDuring(
        sm_clock_mhz_min=min(clocks, default=None),
        sm_clock_mhz_max=max(clocks, default=None),
        power_w_max=max(power, default=None),
        temperature_c_max=max(temperatures, default=None),
        limited_blocks=dict(sorted(limits.items())),
        throttled_blocks=tuple(sorted(throttled)),
        repeated_blocks=tuple(sorted(repeated)),
    )
