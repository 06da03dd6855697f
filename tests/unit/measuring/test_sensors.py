"""NVML's figures are in our units, its errors in our words, and a device that vanishes costs a reading, not the run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kvbench.measuring.clocks import ScriptedClock
from kvbench.measuring.scripted_device import ScriptedNvml, ScriptedSensors
from kvbench.measuring.sensors import NVML_REASONS, NullSensors, NvmlSensors, nvml_reason, open_sensors
from kvbench.records.timings import DeviceReading

UUID = "GPU-11111111-2222-3333-4444-555555555555"


class NVMLError(Exception):
    """The base of NVML's errors."""


def nvml_error(name: str, text: str = "said by NVML") -> NVMLError:
    """An error of NVML's by its class name."""
    error: NVMLError = type(name, (NVMLError,), {})(text)
    return error


ANSWERS: dict[str, Any] = {
    "nvmlInit": None,
    "nvmlDeviceGetHandleByUUID": "the device",
    "nvmlSystemGetDriverVersion": "570.1",
    "nvmlDeviceGetVbiosVersion": "96.00",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3 << 30, total=80 << 30),
    "nvmlDeviceGetTotalEnergyConsumption": 2_912_075,
    "nvmlDeviceGetPowerUsage": 689_415,
    "nvmlDeviceGetEnforcedPowerLimit": 500_000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetComputeMode": 0,
    "nvmlDeviceGetTemperature": 61,
    "nvmlDeviceGetClockInfo": {1: 1980, 2: 2619},
    "nvmlDeviceGetMaxClockInfo": {1: 2000, 2: 2620},
    "nvmlDeviceGetApplicationsClock": {1: 1755, 2: 2619},
    "nvmlDeviceGetCurrentClocksEventReasons": 0x01 | 0x04 | 0x40,  # idle, power cap, too hot
    "nvmlDeviceGetViolationStatus": {
        policy: SimpleNamespace(referenceTime=9, violationTime=policy * 10**9) for policy in range(6)
    },
    "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=439), SimpleNamespace(pid=440)],
}


class FakeNvml(ModuleType):
    """One device that answers as an H200 did; `broken` maps a function to the error that it raises from now on."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.answers = dict(ANSWERS)
        self.broken: dict[str, NVMLError] = {}
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in ANSWERS:
            raise AttributeError(name)

        def answer(*arguments: Any) -> Any:
            self.asked.append(name)
            if name in self.broken:
                raise self.broken[name]
            value = self.answers[name]
            return value[arguments[-1]] if isinstance(value, dict) else value

        return answer


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
            "vbios": "96.00",
            "power_limit_w": 500.0,
            "default_power_limit_w": 700.0,
            "sm_clock_mhz": 1980,
            "max_sm_clock_mhz": 2000,
            "application_sm_clock_mhz": 1755,
            "memory_clock_mhz": 2619,
            "max_memory_clock_mhz": 2620,
            "ecc": True,
            "mig": False,
            "persistence_mode": True,
            "compute_mode": 0,
        } == open_sensors(UUID).facts()

    @pytest.mark.parametrize(
        ("query", "fact"),
        [
            ("nvmlDeviceGetEnforcedPowerLimit", "power_limit_w"),
            ("nvmlDeviceGetEccMode", "ecc"),
            ("nvmlDeviceGetMigMode", "mig"),
            ("nvmlDeviceGetPersistenceMode", "persistence_mode"),
            ("nvmlSystemGetDriverVersion", "driver"),
        ],
    )
    def test_that_does_not_tell_one_fact_tells_the_others(self, nvml: FakeNvml, query: str, fact: str) -> None:
        sensors = open_sensors(UUID)
        nvml.broken[query] = nvml_error("NVMLError_NotSupported")
        facts = sensors.facts()
        assert [fact] == [name for name, value in facts.items() if value is None]

    def test_tells_its_energy_in_joules(self, nvml: FakeNvml) -> None:
        assert 2912.075 == open_sensors(UUID).energy_j()

    def test_tells_what_holds_its_clock_down_now_and_so_far(self, nvml: FakeNvml) -> None:
        assert (
            DeviceReading(
                sm_clock_mhz=1980,
                power_w=689.415,
                temperature_c=61,
                limits=("power_cap", "hw_thermal"),
                limited_s={"power_cap": 0, "thermal": 1, "sync_boost": 2, "board_limit": 3, "reliability": 5},
            )
            == open_sensors(UUID).reading()
        )

    def test_tells_who_else_is_there(self, nvml: FakeNvml) -> None:
        assert (439, 440) == open_sensors(UUID).processes()

    @pytest.mark.parametrize("query", ["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetViolationStatus"])
    def test_that_does_not_tell_its_limits_is_read_all_the_same(self, nvml: FakeNvml, query: str) -> None:
        nvml.broken[query] = nvml_error("NVMLError_NotSupported")
        reading = open_sensors(UUID).reading()
        assert reading is not None
        assert 1 == [reading.limits, reading.limited_s].count(None)

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


class TestZeros:
    """A counter that says zero was not read: a process that measures has memory in use, a driver has spent energy."""

    def test_of_memory_are_no_memory_reading(self, nvml: FakeNvml) -> None:
        nvml.answers["nvmlDeviceGetMemoryInfo"] = SimpleNamespace(used=0)
        sensors = open_sensors(UUID)
        assert (None, "NVML reports zero for memory in use, which cannot be") == (sensors.used_bytes(), sensors.reason)

    def test_of_energy_are_no_counter(self, nvml: FakeNvml) -> None:
        nvml.answers["nvmlDeviceGetTotalEnergyConsumption"] = 0
        sensors = open_sensors(UUID)
        assert (None, "NVML reports zero for an energy counter, which cannot be") == (
            sensors.energy_j(),
            sensors.reason,
        )

    def test_of_clocks_are_unknown_clocks(self, nvml: FakeNvml) -> None:
        nvml.answers["nvmlDeviceGetClockInfo"] = {1: 0, 2: 0}
        reading = open_sensors(UUID).reading()
        assert reading is not None
        assert reading.sm_clock_mhz is None


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
    questions = ("used_bytes", "energy_j", "reading", "processes", "facts")
    for sensors in (NullSensors("none"), NvmlSensors(nvml, UUID), ScriptedSensors("steady", ScriptedClock())):
        assert 5 == len([getattr(sensors, question)() for question in questions])


def test_the_scripted_device_answers_under_names_that_the_real_library_has() -> None:
    pynvml = pytest.importorskip("pynvml")
    names = [name for name in dir(ScriptedNvml) if name.startswith(("nvml", "NVML"))]
    assert [] == [name for name in names if not hasattr(pynvml, name)]
