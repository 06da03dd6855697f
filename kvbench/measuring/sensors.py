"""The device seen from outside torch: NVML's figures in our units, and energy from its counter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from kvbench.measuring.clocks import Clock
from kvbench.records.timings import DeviceReading
from kvbench.records.untimed import EnergyWindow

# NVML's words for what went wrong, in ours.
NVML_REASONS = {
    "NVMLError_LibraryNotFound": "no NVIDIA driver on this machine (NVML library not found)",
    "NVMLError_DriverNotLoaded": "the NVIDIA driver is not loaded",
    "NVMLError_NoPermission": "no permission to query NVML",
    "NVMLError_NotSupported": "this device does not support the query",
    "NVMLError_GpuIsLost": "the device has fallen off the bus",
    "NVMLError_NotFound": "NVML does not list this device",
    "NVMLError_InvalidArgument": "NVML does not list this device",
}

# Bits of nvmlDeviceGetCurrentClocksEventReasons. An idle device, a clock set by the user and a display are no limits.
LIMIT_BITS = {
    0x04: "power_cap",
    0x08: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
}
# Policies of nvmlDeviceGetViolationStatus, whose counters catch what happens between two looks.
VIOLATIONS = {0: "power_cap", 1: "thermal", 2: "sync_boost", 3: "board_limit", 5: "reliability"}


class NvmlSensors:
    """One NVIDIA device by its UUID, which torch and NVML agree on whatever CUDA_VISIBLE_DEVICES says.

    `nvml` is the module pynvml, or one that answers like it. Raises NVML's error when the
    device cannot be found.
    """

    def __init__(self, nvml: Any, uuid: str) -> None:
        self._nvml = nvml
        self.reason: str | None = None
        nvml.nvmlInit()
        self._device = nvml.nvmlDeviceGetHandleByUUID(uuid)

    def used_bytes(self) -> int | None:
        """Memory in use on the whole device, by every process."""
        info = self._ask(self._nvml.nvmlDeviceGetMemoryInfo)
        return None if info is None else self._above_zero(int(info.used), "memory in use")

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded."""
        millijoules = self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption)
        counter = None if millijoules is None else self._above_zero(int(millijoules), "an energy counter")
        return None if counter is None else counter / 1000

    def reading(self) -> DeviceReading | None:
        """Clocks, power, temperature and what holds the clocks down."""
        nvml = self._nvml
        clock = self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM)
        if clock is None:
            return None
        limits = self._ask(nvml.nvmlDeviceGetCurrentClocksEventReasons)
        temperature = self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
        reading = DeviceReading(
            sm_clock_mhz=int(clock) or None,
            power_w=_thousandth(self._ask(nvml.nvmlDeviceGetPowerUsage)),
            temperature_c=None if temperature is None else int(temperature),
            limits=None if limits is None else tuple(word for bit, word in LIMIT_BITS.items() if int(limits) & bit),
            limited_s=self._limited_s(),
        )
        self.reason = None
        return reading

    def processes(self) -> tuple[int, ...] | None:
        """Ids of the processes that compute on the device; in a container these may be the host's."""
        listed = self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses)
        return None if listed is None else tuple(int(process.pid) for process in listed)

    def facts(self) -> dict[str, Any]:
        """Driver, power cap in watts, clocks in MHz, ECC and the like; None is what the device does not tell."""
        nvml = self._nvml
        ecc = self._ask(nvml.nvmlDeviceGetEccMode)
        mig = self._ask(nvml.nvmlDeviceGetMigMode)
        persistence = self._ask(nvml.nvmlDeviceGetPersistenceMode)
        return {
            "driver": self._ask(lambda _device: nvml.nvmlSystemGetDriverVersion()),
            "vbios": self._ask(nvml.nvmlDeviceGetVbiosVersion),
            "power_limit_w": _thousandth(self._ask(nvml.nvmlDeviceGetEnforcedPowerLimit)),
            "default_power_limit_w": _thousandth(self._ask(nvml.nvmlDeviceGetPowerManagementDefaultLimit)),
            "sm_clock_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM) or None,
            "max_sm_clock_mhz": self._ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM) or None,
            "application_sm_clock_mhz": self._ask(nvml.nvmlDeviceGetApplicationsClock, nvml.NVML_CLOCK_SM) or None,
            "memory_clock_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM) or None,
            "max_memory_clock_mhz": self._ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_MEM) or None,
            "ecc": None if ecc is None else bool(ecc[0]),
            "mig": None if mig is None else bool(mig[0]),
            "persistence_mode": None if persistence is None else bool(persistence),
            "compute_mode": self._ask(nvml.nvmlDeviceGetComputeMode),
        }

    def _limited_s(self) -> dict[str, float] | None:
        nanoseconds = {
            cause: self._ask(self._nvml.nvmlDeviceGetViolationStatus, policy) for policy, cause in VIOLATIONS.items()
        }
        told = {cause: status.violationTime * 1e-9 for cause, status in nanoseconds.items() if status is not None}
        return told or None

    def _above_zero(self, value: int, what: str) -> int | None:
        if value > 0:
            return value
        self.reason = f"NVML reports zero for {what}, which cannot be"
        return None

    def _ask(self, query: Callable[..., Any], *arguments: Any) -> Any:
        try:
            answer = query(self._device, *arguments)
        except self._nvml.NVMLError as error:
            self.reason = nvml_reason(error)
            return None
        self.reason = None
        return answer


def nvml_reason(error: Exception) -> str:
    """One of our sentences for an NVML error."""
    return NVML_REASONS.get(type(error).__name__, f"NVML: {error}")


def _thousandth(value: Any) -> float | None:
    return None if value is None else value / 1000


class DeviceSensors(Protocol):
    """Readings of one device. None is what could not be read; zero is never a stand-in for it."""

    reason: str | None  # why the last reading was None, when it was

    def used_bytes(self) -> int | None:
        """Memory in use on the whole device, by every process."""

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded; the counter moves about every 100 ms."""

    def reading(self) -> DeviceReading | None:
        """Clocks, power, temperature and what holds the clocks down."""

    def processes(self) -> tuple[int, ...] | None:
        """Ids of the processes that compute on the device, as the driver counts them."""

    def facts(self) -> dict[str, Any]:
        """Driver, power cap, clocks, ECC and the like, as far as the device tells."""


class NullSensors:
    """For machines and devices without NVML."""

    def __init__(self, reason: str) -> None:
        self.reason: str | None = reason

    def used_bytes(self) -> None:
        """Unknown, see `reason`."""
        return

    def energy_j(self) -> None:
        """Unknown, see `reason`."""
        return

    def reading(self) -> None:
        """Unknown, see `reason`."""
        return

    def processes(self) -> None:
        """Unknown, see `reason`."""
        return

    def facts(self) -> dict[str, Any]:
        """Nothing known."""
        return {}


class SeveralSensors:
    """Some devices that work for one model: what they use, added up, and the hottest and slowest of them.

    What one of them does not tell is not told of all.
    """

    def __init__(self, devices: Sequence[DeviceSensors]) -> None:
        self._devices = devices
        self.reason: str | None = None

    def _each(self, ask: Callable[[DeviceSensors], Any]) -> list[Any]:
        answers = [ask(each) for each in self._devices]
        self.reason = next((each.reason for each in self._devices if each.reason is not None), None)
        return answers

    def used_bytes(self) -> int | None:
        """Memory in use on all of them together."""
        return _sum(self._each(lambda each: each.used_bytes()))

    def energy_j(self) -> float | None:
        """The sum of their counters."""
        return _sum(self._each(lambda each: each.energy_j()))

    def energies_j(self) -> tuple[float | None, ...]:
        """Each one's counter."""
        return tuple(self._each(lambda each: each.energy_j()))

    def reading(self) -> DeviceReading | None:
        """What they all say, with each one's own."""
        readings = self._each(lambda each: each.reading())
        known = [each for each in readings if each is not None]
        return together(known) if len(known) == len(readings) else None

    def processes(self) -> tuple[int, ...] | None:
        """Ids of the processes that compute on any of them."""
        listed = self._each(lambda each: each.processes())
        known = [each for each in listed if each is not None]
        return tuple(sorted({pid for each in known for pid in each})) if len(known) == len(listed) else None

    def facts(self) -> dict[str, Any]:
        """Those of the first: a model is shared out over devices of one kind."""
        return self._devices[0].facts()


def together(readings: Sequence[DeviceReading]) -> DeviceReading:
    """One reading of several devices: the slowest clock, the sum of power, the highest temperature, every limit."""
    clocks = [each.sm_clock_mhz for each in readings]
    temperatures = [each.temperature_c for each in readings]
    limits = [each.limits for each in readings]
    limited = [each.limited_s for each in readings]
    causes = {cause for each in limited for cause in each or ()}
    return DeviceReading(
        sm_clock_mhz=None if None in clocks else min(filter(None, clocks)),
        power_w=_sum([each.power_w for each in readings]),
        temperature_c=None if None in temperatures else max(each for each in temperatures if each is not None),
        limits=None if None in limits else tuple(dict.fromkeys(limit for each in limits for limit in each or ())),
        limited_s=(
            None
            if None in limited
            else {cause: max((each or {}).get(cause, 0.0) for each in limited) for cause in causes}
        ),
        devices=tuple(readings),
    )


N = TypeVar("N", int, float)


def _sum(values: Sequence[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return sum(known, start=type(known[0])(0)) if known and len(known) == len(values) else None


def open_sensors(*uuids: str | None) -> DeviceSensors:
    """The sensors of the devices with these NVML UUIDs ("GPU-…"); null ones with the reason when there are none."""
    if len(uuids) > 1:
        return SeveralSensors([open_sensors(uuid) for uuid in uuids])
    (uuid,) = uuids
    if uuid is None:
        return NullSensors("the run is not on an NVIDIA device")
    import pynvml

    try:
        return NvmlSensors(pynvml, uuid)
    except pynvml.NVMLError as error:
        return NullSensors(nvml_reason(error))


# Energy of repeated work, from a cumulative counter that moves about ten times a second.


IDLE_S = 1.0  # of doing nothing, for the baseline
SHORTEST_S = 1.0  # ten movements of the counter: a window of less is not worth a figure
POLL_S = 0.002  # how closely a movement of the counter is timed; asking takes NVML about 4 ms besides
PATIENCE_S = 1.0  # a counter that stands still for so long is not counting


class EnergyMeter:
    """One device's counter, or the sum of several. Windows begin and end where the counter has just moved.

    Of several ranks rank 0 reads: `led` tells the others what it found, so that all work for the same time.
    """

    def __init__(
        self, sensors: DeviceSensors, clock: Clock, led: Callable[[Callable[[], Any]], Any] = lambda make: make()
    ) -> None:
        self._sensors = sensors
        self._clock = clock
        self._led = led
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
            ended_s = self._led(self._now_s)
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
        return EnergyWindow(
            arm, joules, window_s, tokens, idle_watts, device_joules=_by_device(begin[2], end[2], joules)
        )

    def _movement(self) -> tuple[float, float, tuple[float | None, ...]] | None:
        found, self.reason = self._led(lambda: (self._own_movement(), self.reason))
        return found  # type: ignore[no-any-return]

    def _own_movement(self) -> tuple[float, float, tuple[float | None, ...]] | None:
        """Wait for the counter's next movement: (seconds, joules, each device's), or None with `reason`."""
        first = self._sensors.energy_j()
        began_s = self._now_s()
        while first is not None:
            self._clock.wait(POLL_S)
            joules = self._sensors.energy_j()
            if joules is None:
                break
            if joules > first:
                return self._now_s(), joules, getattr(self._sensors, "energies_j", tuple)()
            if self._now_s() - began_s > PATIENCE_S:
                self.reason = f"the device's energy counter did not move for {PATIENCE_S:g} s"
                return None
        self.reason = self._sensors.reason or "the device has no energy counter"
        return None

    def _now_s(self) -> float:
        return self._clock.now_ns() * 1e-9


def _by_device(before: Sequence[float | None], after: Sequence[float | None], joules: float) -> tuple[float, ...]:
    """Each of several devices' share of the energy by its own counter, adding up to `joules`; else nothing."""
    used = [end - begin for begin, end in zip(before, after, strict=True) if begin is not None and end is not None]
    total = sum(used)
    return tuple(joules * each / total for each in used) if total and len(used) == len(before) else ()
