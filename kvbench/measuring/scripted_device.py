"""A device that exists in virtual time only: it answers like NVML, well or badly, for tests of the whole program."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace
from typing import Any

from kvbench.measuring.clocks import ScriptedClock
from kvbench.measuring.sensors import NvmlSensors

IDLE_W, WORKING_W = 100.0, 300.0
TICK_S = 0.1  # how often the energy counter moves
SM_CLOCK_MHZ, SLOW_CLOCK_MHZ = 2000, 1200
USED_BYTES = 4 << 30
HW_THERMAL = 0x40  # a bit of nvmlDeviceGetCurrentClocksEventReasons
THERMAL = 1  # a policy of nvmlDeviceGetViolationStatus
THROTTLED_BLOCK = 2  # of the script "throttled_once"
VANISHES_IN_BLOCK = 3  # of the script "vanishing"
HOST_PID = 4_000_001  # above the largest id that Linux gives by default


class NVMLError(Exception):
    """The base of this module's errors, as in pynvml."""


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801 - NVML's name
    """The device has gone."""


class ScriptedNvml:
    """The part of pynvml that `NvmlSensors` asks, for one device that lives in a scripted clock's time.

    `script` is one of `config.script.SENSORS`: "steady" answers well, "throttled" is too hot in every block and
    "throttled_once" in one, "stalled" has an energy counter that stands still, "zero" answers zero to everything,
    "vanishing" falls off the bus in the middle of the run, "host_pids" lists process ids that are none of ours.
    """

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, script: str, clock: ScriptedClock) -> None:
        self.script = script
        self.block: int | None = None  # the one that is being measured
        self._now_s = 0.0
        self._joules = 1000.0
        self._counter_j = self._joules
        self._thermal_s = 0.0
        clock.on_spend = self._spend

    def _spend(self, seconds: float, working: bool) -> None:
        """Energy is spent as time is; the counter shows what it was at its last tick."""
        watts = WORKING_W if working else IDLE_W
        tick_s = math.floor((self._now_s + seconds) / TICK_S + 1e-9) * TICK_S
        if self.script != "stalled" and tick_s > self._now_s:
            self._counter_j = self._joules + watts * (tick_s - self._now_s)
        self._joules += watts * seconds
        self._now_s += seconds
        if self._hot():
            self._thermal_s += seconds

    def _hot(self) -> bool:
        return self.block is not None and (
            self.script == "throttled" or (self.script == "throttled_once" and self.block == THROTTLED_BLOCK)
        )

    def _answer(self, value: Any) -> Any:
        if self.script == "vanishing" and self.block is not None and self.block >= VANISHES_IN_BLOCK:
            raise NVMLError_GpuIsLost("GPU is lost")
        return type(value)() if self.script == "zero" else value

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names, here and below
        """Nothing to start."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        """The only device there is."""
        return uuid

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        """There is none, so a script with sensors and one without are the same environment."""
        raise NVMLError("there is no driver")

    def nvmlDeviceGetVbiosVersion(self, _device: str) -> str:  # noqa: N802
        """No board's."""
        return "scripted"

    def nvmlDeviceGetMemoryInfo(self, _device: str) -> Any:  # noqa: N802
        """Bytes."""
        return SimpleNamespace(used=self._answer(USED_BYTES))

    def nvmlDeviceGetTotalEnergyConsumption(self, _device: str) -> int:  # noqa: N802
        """Millijoules."""
        return int(self._answer(round(self._counter_j * 1000)))

    def nvmlDeviceGetPowerUsage(self, _device: str) -> int:  # noqa: N802
        """Milliwatts."""
        return int(self._answer(int(WORKING_W * 1000)))

    def nvmlDeviceGetEnforcedPowerLimit(self, _device: str) -> int:  # noqa: N802
        """Milliwatts."""
        return int(self._answer(700_000))

    def nvmlDeviceGetPowerManagementDefaultLimit(self, _device: str) -> int:  # noqa: N802
        """Milliwatts."""
        return int(self._answer(700_000))

    def nvmlDeviceGetTemperature(self, _device: str, _sensor: int) -> int:  # noqa: N802
        """Degrees Celsius."""
        return int(self._answer(95 if self._hot() else 50))

    def nvmlDeviceGetClockInfo(self, _device: str, _clock: int) -> int:  # noqa: N802
        """MHz."""
        return int(self._answer(SLOW_CLOCK_MHZ if self._hot() else SM_CLOCK_MHZ))

    def nvmlDeviceGetMaxClockInfo(self, _device: str, _clock: int) -> int:  # noqa: N802
        """MHz."""
        return int(self._answer(SM_CLOCK_MHZ))

    def nvmlDeviceGetApplicationsClock(self, _device: str, _clock: int) -> int:  # noqa: N802
        """MHz."""
        return int(self._answer(SM_CLOCK_MHZ))

    def nvmlDeviceGetCurrentClocksEventReasons(self, _device: str) -> int:  # noqa: N802
        """A sum of bits."""
        return int(self._answer(HW_THERMAL if self._hot() else 0))

    def nvmlDeviceGetViolationStatus(self, _device: str, policy: int) -> Any:  # noqa: N802
        """Nanoseconds since the driver was loaded."""
        spent_s = self._thermal_s if policy == THERMAL else 0.0
        return SimpleNamespace(violationTime=self._answer(round(spent_s * 1e9)))

    def nvmlDeviceGetEccMode(self, _device: str) -> list[int]:  # noqa: N802
        """Now, and after the next start."""
        return [1, 1]

    def nvmlDeviceGetMigMode(self, _device: str) -> list[int]:  # noqa: N802
        """Now, and after the next start."""
        return [0, 0]

    def nvmlDeviceGetPersistenceMode(self, _device: str) -> int:  # noqa: N802
        """On."""
        return 1

    def nvmlDeviceGetComputeMode(self, _device: str) -> int:  # noqa: N802
        """Shared by whoever comes."""
        return 0

    def nvmlDeviceGetComputeRunningProcesses(self, _device: str) -> list[Any]:  # noqa: N802
        """Our own process, or some of the host's."""
        self._answer(0)
        return [SimpleNamespace(pid=HOST_PID if self.script == "host_pids" else os.getpid())]


class ScriptedSensors(NvmlSensors):
    """The sensors of a scripted device."""

    def __init__(self, script: str, clock: ScriptedClock) -> None:
        self.device = ScriptedNvml(script, clock)
        super().__init__(self.device, "GPU-scripted")

    def enter(self, block: int | None) -> None:
        """Be in this block from now on; None is before and after them."""
        self.device.block = block
