"""NVML's figures are in our units, its errors in our words, and a device that vanishes costs a reading, not the run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kvbench.measuring.sensors import NVML_REASONS, NullSensors, NvmlSensors, nvml_reason, open_sensors

UUID = "GPU-11111111-2222-3333-4444-555555555555"


class NVMLError(Exception):
    """The base of NVML's errors."""


def nvml_error(name: str, text: str = "said by NVML") -> NVMLError:
    """An error of NVML's by its class name."""
    error: NVMLError = type(name, (NVMLError,), {})(text)
    return error


class FakeNvml(ModuleType):
    """One device; `broken` maps a function's name to the error that it raises from now on."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.broken: dict[str, NVMLError] = {}
        self.asked: list[str] = []

    def _answer(self, name: str, value: Any) -> Any:
        self.asked.append(name)
        if name in self.broken:
            raise self.broken[name]
        return value

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        self._answer("nvmlInit", None)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return self._answer("nvmlDeviceGetHandleByUUID", f"handle of {uuid}")  # type: ignore[no-any-return]

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return self._answer("nvmlSystemGetDriverVersion", "570.1")  # type: ignore[no-any-return]

    def nvmlDeviceGetMemoryInfo(self, device: str) -> Any:  # noqa: N802
        assert f"handle of {UUID}" == device
        return self._answer("nvmlDeviceGetMemoryInfo", SimpleNamespace(used=3 << 30, total=80 << 30))

    def nvmlDeviceGetPowerManagementLimit(self, device: str) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetPowerManagementLimit", 700_000)  # type: ignore[no-any-return]

    def nvmlDeviceGetEccMode(self, device: str) -> list[int]:  # noqa: N802
        return self._answer("nvmlDeviceGetEccMode", [1, 1])  # type: ignore[no-any-return]

    def nvmlDeviceGetClockInfo(self, device: str, clock: int) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetClockInfo", {1: 1980, 2: 2619}[clock])  # type: ignore[no-any-return]

    def nvmlDeviceGetMaxClockInfo(self, device: str, clock: int) -> int:  # noqa: N802
        return self._answer("nvmlDeviceGetMaxClockInfo", {1: 2000, 2: 2620}[clock])  # type: ignore[no-any-return]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """In the place of pynvml."""
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


class TestADevice:
    def test_is_read_by_its_uuid(self, nvml: FakeNvml) -> None:
        sensors = open_sensors(UUID)
        assert (3 << 30, None) == (sensors.used_bytes(), sensors.reason)

    def test_tells_its_facts_in_watts_and_megahertz(self, nvml: FakeNvml) -> None:
        assert {
            "driver": "570.1",
            "power_limit_w": 700.0,
            "sm_clock_mhz": 1980,
            "max_sm_clock_mhz": 2000,
            "memory_clock_mhz": 2619,
            "ecc": True,
        } == open_sensors(UUID).facts()

    @pytest.mark.parametrize(
        ("query", "fact"),
        [
            ("nvmlDeviceGetPowerManagementLimit", "power_limit_w"),
            ("nvmlDeviceGetEccMode", "ecc"),
            ("nvmlDeviceGetMaxClockInfo", "max_sm_clock_mhz"),
            pytest.param(
                "nvmlSystemGetDriverVersion",
                "driver",
            ),
        ],
    )
    def test_that_does_not_tell_one_fact_tells_the_others(self, nvml: FakeNvml, query: str, fact: str) -> None:
        sensors = open_sensors(UUID)
        nvml.broken[query] = nvml_error("NVMLError_NotSupported")
        facts = sensors.facts()
        assert [fact] == [name for name, value in facts.items() if value is None]

    def test_whose_memory_is_known_has_no_reason_for_it_to_be_unknown(self, nvml: FakeNvml) -> None:
        sensors = open_sensors(UUID)
        nvml.broken["nvmlDeviceGetEccMode"] = nvml_error("NVMLError_NotSupported")
        sensors.facts()
        assert (3 << 30, None) == (sensors.used_bytes(), sensors.reason)


class TestADeviceThatVanishes:
    def test_gives_none_and_the_reason_from_then_on(self, nvml: FakeNvml) -> None:
        sensors = open_sensors(UUID)
        assert 3 << 30 == sensors.used_bytes()
        nvml.broken["nvmlDeviceGetMemoryInfo"] = nvml_error("NVMLError_GpuIsLost")
        assert (None, "the device has fallen off the bus") == (sensors.used_bytes(), sensors.reason)
        assert sensors.used_bytes() is None

    def test_is_read_again_when_it_answers_again(self, nvml: FakeNvml) -> None:
        sensors = open_sensors(UUID)
        nvml.broken["nvmlDeviceGetMemoryInfo"] = nvml_error("NVMLError_Unknown")
        assert sensors.used_bytes() is None
        nvml.broken.clear()
        assert 3 << 30 == sensors.used_bytes()


class TestAMachineWithoutNvml:
    @pytest.mark.parametrize("name", NVML_REASONS)
    @pytest.mark.parametrize("where", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
    def test_has_null_sensors_that_say_why(self, nvml: FakeNvml, name: str, where: str) -> None:
        nvml.broken[where] = nvml_error(name)
        sensors = open_sensors(UUID)
        assert NullSensors is type(sensors)
        assert (None, {}, NVML_REASONS[name]) == (sensors.used_bytes(), sensors.facts(), sensors.reason)

    def test_passes_on_an_error_that_it_has_no_words_for(self) -> None:
        assert "NVML: the moon is full" == nvml_reason(nvml_error("NVMLError_Moon", "the moon is full"))

    def test_knows_the_names_that_the_real_library_uses(self) -> None:
        pynvml = pytest.importorskip("pynvml")
        assert [] == [name for name in NVML_REASONS if not hasattr(pynvml, name)]

    def test_is_not_asked_for_a_run_that_is_on_no_nvidia_device(self, nvml: FakeNvml) -> None:
        sensors = open_sensors(None)
        assert (None, {}, "the run is not on an NVIDIA device") == (
            sensors.used_bytes(),
            sensors.facts(),
            sensors.reason,
        )
        assert [] == nvml.asked


def test_both_kinds_answer_the_same_questions(nvml: FakeNvml) -> None:
    questions: list[Callable[[Any], Any]] = [lambda s: s.used_bytes(), lambda s: s.facts(), lambda s: s.reason]
    for sensors in (NullSensors("none"), NvmlSensors(UUID)):
        assert 3 == len([question(sensors) for question in questions])
