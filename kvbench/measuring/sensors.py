"""The device seen from outside torch: NVML with its errors in our words, and a null version that says why it is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kvbench.records.timings import DeviceReading

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


def open_sensors(uuid: str | None) -> DeviceSensors:
    """The sensors of the device with this NVML UUID ("GPU-…"); null ones with the reason when there are none."""
    if uuid is None:
        return NullSensors("the run is not on an NVIDIA device")
    import pynvml

    try:
        return NvmlSensors(pynvml, uuid)
    except pynvml.NVMLError as error:
        return NullSensors(nvml_reason(error))
