"""The device seen from outside torch: NVML behind one interface, with a null version that says why it is null."""

from __future__ import annotations

from typing import Any, Protocol

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


class DeviceSensors(Protocol):
    """Readings of one device."""

    reason: str | None  # why the last reading of memory was None, when it was

    def used_bytes(self) -> int | None:
        """Memory in use on the whole device, by every process."""

    def facts(self) -> dict[str, Any]:
        """Driver, name, power cap and clocks, as far as the device tells."""


class NullSensors:
    """For machines and devices without NVML."""

    def __init__(self, reason: str) -> None:
        self.reason: str | None = reason

    def used_bytes(self) -> None:
        """Unknown, see `reason`."""
        return

    def facts(self) -> dict[str, Any]:
        """Nothing known."""
        return {}


class NvmlSensors:
    """One NVIDIA device by its UUID, which torch and NVML agree on whatever CUDA_VISIBLE_DEVICES says."""

    def __init__(self, uuid: str) -> None:
        import pynvml

        self._nvml = pynvml
        self.reason: str | None = None
        pynvml.nvmlInit()
        self._device = pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def used_bytes(self) -> int | None:
        """See `DeviceSensors`."""
        try:
            used = int(self._nvml.nvmlDeviceGetMemoryInfo(self._device).used)
        except self._nvml.NVMLError as error:
            self.reason = nvml_reason(error)
            return None
        self.reason = None
        return used

    def facts(self) -> dict[str, Any]:
        """See `DeviceSensors`; watts and MHz. What the device does not tell is None."""
        nvml = self._nvml
        milliwatts = self._ask(nvml.nvmlDeviceGetPowerManagementLimit)
        ecc = self._ask(nvml.nvmlDeviceGetEccMode)
        return {
            "driver": self._ask(lambda _device: nvml.nvmlSystemGetDriverVersion()),
            "power_limit_w": None if milliwatts is None else milliwatts / 1000,
            "sm_clock_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            "max_sm_clock_mhz": self._ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            "ecc": None if ecc is None else bool(ecc[0]),
        }

    def _ask(self, query: Any, *arguments: Any) -> Any:
        try:
            return query(self._device, *arguments)
        except self._nvml.NVMLError:
            return None


def open_sensors(uuid: str | None) -> DeviceSensors:
    """The sensors of the device with this NVML UUID ("GPU-…"); null ones with the reason when there are none."""
    if uuid is None:
        return NullSensors("the run is not on an NVIDIA device")
    import pynvml

    try:
        return NvmlSensors(uuid)
    except pynvml.NVMLError as error:
        return NullSensors(nvml_reason(error))


def nvml_reason(error: Exception) -> str:
    """One of our sentences for an NVML error."""
    return NVML_REASONS.get(type(error).__name__, f"NVML: {error}")
