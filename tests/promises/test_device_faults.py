"""A device that misbehaves is told of, and costs a figure at most: through the whole program, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.records.store import BLOCKS, find_runs

Run = Callable[..., tuple[int, str, str]]

QUICK = (
    "model=scripted",
    "model.prefill_s=0.5",
    "model.cached_step_s=0.1",
    "model.nocache_step_s=0.2",
    "workload.prompt_tokens=5",
    "workload.new_tokens=6",
    "measure.warmup=0",
    "launch=inline",
    "report=false",
)


@pytest.fixture
def measured(run_kvbench: Run, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Runs with the sensors of a name; the exit code and the record."""

    def run(sensors: str, *overrides: str) -> tuple[int, dict[str, Any]]:
        code, _, _ = run_kvbench(*QUICK, f"model.sensors={sensors}", *overrides)
        (found,) = find_runs([tmp_path / "results"]).runs
        data: dict[str, Any] = json.loads(found.record.model_dump_json())
        data["blocks"] = [json.loads(line) for line in (found.folder / BLOCKS).read_text().splitlines()]
        return code, data

    return run


Measured = Callable[..., tuple[int, dict[str, Any]]]


def warnings(run: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in run["warnings"]]


def check(run: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in run["checks"] if each["name"] == name]
    return dict(found)


class TestASteadyDevice:
    def test_gives_back_the_energy_that_was_spent(self, measured: Measured) -> None:
        _, run = measured("steady")
        nocache, cached = (arm["energy"] for arm in run["arms"])
        # 300 W over 0.5 s of prefill and 5 steps make 6 tokens; the counter is asked every 2 ms
        assert (300 * 1.5 / 6, 300 * 1.0 / 6) == pytest.approx(
            (nocache["joules_per_token"], cached["joules_per_token"]), rel=2e-3
        )
        assert (100, 100) == pytest.approx((nocache["idle_watts"], cached["idle_watts"]), rel=1e-6)
        assert nocache["window_s"] >= 3 <= cached["window_s"]

    def test_repeats_generations_until_the_window_is_full(self, measured: Measured) -> None:
        _, run = measured("steady", "measure.energy_s=7")
        assert [5 * 6, 7 * 6] == [arm["energy"]["new_tokens"] for arm in run["arms"]]  # of 1.5 s and of 1 s each

    def test_throttles_no_block(self, measured: Measured) -> None:
        code, run = measured("steady")
        assert (0, True) == (code, check(run, "throttling")["passed"])
        assert [((), None)] * 8 == [(tuple(block["throttled"]), block["repeats"]) for block in run["blocks"]]
        assert [] == warnings(run)

    def test_is_described_by_the_record(self, measured: Measured) -> None:
        _, run = measured("steady")
        assert {
            "sm_clock_mhz_min": 2000,
            "sm_clock_mhz_max": 2000,
            "power_w_max": 300.0,
            "temperature_c_max": 50,
            "limited_blocks": {},
            "throttled_blocks": [],
            "repeated_blocks": [],
        } == run["device_during"]
        assert (700.0, 2000, True, 0) == tuple(
            run["environment"][name] for name in ("power_limit_w", "max_sm_clock_mhz", "ecc", "other_device_processes")
        )


class TestAWindow:
    def test_that_is_switched_off_is_null_with_the_reason(self, measured: Measured) -> None:
        _, run = measured("steady", "measure.energy_s=0")
        assert [None, None] == [arm["energy"]["joules_per_token"] for arm in run["arms"]]
        assert "measure.energy_s=0" in run["null_reasons"]["/arms/1/energy/joules_per_token"]

    def test_that_is_too_short_for_the_counter_is_null_with_the_reason(self, measured: Measured) -> None:
        _, run = measured("steady", "measure.energy_s=0.1", "model.prefill_s=0.1", "workload.new_tokens=2")
        assert [None, None] == [arm["energy"]["joules_per_token"] for arm in run["arms"]]
        assert "too short" in run["null_reasons"]["/arms/0/energy/joules_per_token"]


class TestADeviceThatThrottles:
    def test_once_has_that_block_measured_again(self, measured: Measured) -> None:
        code, run = measured("throttled_once")
        assert 0 == code
        assert 9 == len(run["blocks"])
        assert [(2, True, None), (3, False, 2)] == [
            (block["index"], bool(block["throttled"]), block["repeats"]) for block in run["blocks"][2:4]
        ]
        assert {8} == {arm["itl_s"]["n"] for arm in run["arms"]}
        assert ([2], [2]) == (run["device_during"]["throttled_blocks"], run["device_during"]["repeated_blocks"])
        assert "0 of 8 blocks throttled, after 1 were measured again" in check(run, "throttling")["detail"]

    def test_always_makes_the_run_invalid(self, measured: Measured) -> None:
        code, run = measured("throttled")
        assert (3, "invalid") == (code, run["status"])
        assert "hw_thermal" in check(run, "throttling")["detail"]
        assert "cool it" in check(run, "throttling")["advice"]
        assert "INVALID" == run["comparison"]["verdict"]

    def test_always_is_measured_twice_as_often_and_no_more(self, measured: Measured) -> None:
        _, run = measured("throttled")
        assert [None, 0, None, 2, None, 4, None, 6] == [block["repeats"] for block in run["blocks"]][:8]
        assert (16, {8}) == (len(run["blocks"]), {arm["itl_s"]["n"] for arm in run["arms"]})


class TestADeviceWhose:
    def test_counter_stands_still_has_no_energy(self, measured: Measured) -> None:
        code, run = measured("stalled")
        assert 0 == code
        assert [None, None] == [arm["energy"]["joules_per_token"] for arm in run["arms"]]
        assert "did not move" in run["null_reasons"]["/arms/0/energy/joules_per_token"]

    def test_answers_are_zero_gives_no_zeros(self, measured: Measured) -> None:
        code, run = measured("zero")
        assert 0 == code
        reason = "NVML reports zero for an energy counter, which cannot be"
        assert reason == run["null_reasons"]["/arms/0/energy/joules_per_token"]
        assert (None, None) == (run["environment"]["sm_clock_mhz"], run["device_during"]["sm_clock_mhz_max"])

    def test_process_list_is_the_host_s_does_not_count_neighbours(self, measured: Measured) -> None:
        _, run = measured("host_pids")
        assert ([4_000_001], None) == tuple(
            run["environment"][name] for name in ("device_processes", "other_device_processes")
        )
        assert "container" in run["null_reasons"]["/environment/other_device_processes"]
        assert "device_shared" not in warnings(run)


class TestADeviceThatVanishes:
    def test_costs_its_figures_and_not_the_run(self, measured: Measured) -> None:
        code, run = measured("vanishing")
        assert (0, "ok") == (code, run["status"])
        assert [True] * 3 + [False] * 5 == [block["device_after"] is not None for block in run["blocks"]]
        assert "sensors_lost" in warnings(run)

    def test_has_no_energy_and_says_why(self, measured: Measured) -> None:
        _, run = measured("vanishing")
        assert "off the bus" in run["null_reasons"]["/arms/1/energy/joules_per_token"]


def test_sensors_of_a_script_need_virtual_time(run_kvbench: Run) -> None:
    code, _, err = run_kvbench(*QUICK, "model.sensors=steady", "model.virtual_time=false")
    assert 2 == code
    assert "model.sensors=steady: lives in virtual time; set model.virtual_time=true" in err
