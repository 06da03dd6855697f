"""Several devices that work for one model: their readings added up, and what one does not tell is not told of all."""

from __future__ import annotations

import pytest

from kvbench.measuring.clocks import ScriptedClock
from kvbench.measuring.scripted_device import IDLE_W, USED_BYTES, WORKING_W, ScriptedSensors
from kvbench.measuring.sensors import EnergyMeter, NullSensors, SeveralSensors, together
from kvbench.records.timings import DeviceReading

HOT = DeviceReading(1200, 300.0, 80, ("hw_thermal",), {"thermal": 2.0})
COOL = DeviceReading(2000, 100.0, 50, (), {"thermal": 0.5, "power_cap": 1.0})


class TwoDevices:
    """Two devices in one clock's time."""

    def __init__(self) -> None:
        self.clock = ScriptedClock()
        spends = []
        devices = []
        for _ in range(2):
            devices.append(ScriptedSensors("steady", self.clock))
            assert self.clock.on_spend is not None
            spends.append(self.clock.on_spend)
        self.clock.on_spend = lambda seconds, working: [spend(seconds, working) for spend in spends] and None
        self.sensors = SeveralSensors(devices)


def test_memory_and_energy_are_sums() -> None:
    both = TwoDevices()
    assert 2 * USED_BYTES == both.sensors.used_bytes()
    before = both.sensors.energy_j()
    both.clock.spend(1.0)
    assert before is not None
    assert pytest.approx(2 * WORKING_W) == (both.sensors.energy_j() or 0) - before


def test_a_window_tells_each_devices_share_of_the_energy() -> None:
    both = TwoDevices()
    meter = EnergyMeter(both.sensors, both.clock)
    idle = meter.idle_watts()
    assert pytest.approx(2 * IDLE_W, rel=0.05) == idle

    def work() -> int:
        both.clock.spend(0.5)
        return 10

    window = meter.window(0, work, 2.0, idle)
    assert window.joules is not None
    assert 2 == len(window.device_joules)
    assert window.device_joules[0] == window.device_joules[1]
    assert pytest.approx(window.joules) == sum(window.device_joules)


def test_a_device_that_tells_nothing_leaves_the_sum_unknown_with_its_reason() -> None:
    sensors = SeveralSensors([TwoDevices().sensors, NullSensors("no driver")])
    told = (sensors.used_bytes(), sensors.energy_j(), sensors.reading(), sensors.processes())
    assert (None, None, None, None, "no driver") == (*told, sensors.reason)


def test_readings_together_are_the_slowest_clock_the_whole_power_and_every_limit() -> None:
    both = together([HOT, COOL])
    assert (1200, 400.0, 80, ("hw_thermal",)) == (both.sm_clock_mhz, both.power_w, both.temperature_c, both.limits)
    assert {"thermal": 2.0, "power_cap": 1.0} == both.limited_s
    assert (HOT, COOL) == both.devices
