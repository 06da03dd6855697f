"""The device seen from outside torch: one interface, and a null version that says why it is null."""

from __future__ import annotations

from typing import Any, Protocol

from kvbench.measuring.nvml import NvmlSensors, nvml_reason
from kvbench.records.timings import DeviceReading


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
