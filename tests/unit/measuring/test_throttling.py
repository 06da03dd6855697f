"""What held the clock down belongs to the block it was seen in; only some of it makes it another device's block."""

from __future__ import annotations

import pytest

from kvbench.records.timings import DeviceReading, limits_between, throttles


def reading(*limits: str, **limited_s: float) -> DeviceReading:
    """What holds the clock down now, and for how long each cause has so far."""
    return DeviceReading(sm_clock_mhz=2000, power_w=300.0, temperature_c=50, limits=limits, limited_s=limited_s)


class TestALimitSeen:
    def test_at_the_end_counts(self) -> None:
        assert ("hw_thermal",) == limits_between(reading(), reading("hw_thermal"), 10.0)

    def test_at_the_beginning_only_belongs_to_the_block_before(self) -> None:
        assert () == limits_between(reading("hw_thermal"), reading(), 10.0)

    def test_at_both_ends_counts_once(self) -> None:
        assert ("hw_thermal",) == limits_between(reading("hw_thermal"), reading("hw_thermal"), 10.0)

    def test_at_the_end_counts_without_a_reading_before(self) -> None:
        assert ("power_brake",) == limits_between(None, reading("power_brake", thermal=9.0), 10.0)

    def test_beside_others_is_told_with_them_in_order(self) -> None:
        before, after = reading(thermal=0.0), reading("power_brake", "hw_thermal", thermal=5.0)
        assert ("hw_thermal", "power_brake", "thermal") == limits_between(before, after, 10.0)

    def test_and_counted_under_one_name_is_told_once(self) -> None:
        assert ("power_cap",) == limits_between(reading(power_cap=0.0), reading("power_cap", power_cap=5.0), 10.0)


class TestACounter:
    @pytest.mark.parametrize(
        ("spent_s", "expected"), [(0.0, ()), (0.099, ()), (0.1, ()), (0.101, ("thermal",)), (10.0, ("thermal",))]
    )
    def test_counts_when_it_moved_for_more_than_one_percent_of_the_time(
        self, spent_s: float, expected: tuple[str, ...]
    ) -> None:
        assert expected == limits_between(reading(thermal=0.0), reading(thermal=spent_s), 10.0)

    def test_counts_for_what_it_moved_by_and_not_for_where_it_stands(self) -> None:
        assert () == limits_between(reading(thermal=500.0), reading(thermal=500.0), 10.0)
        assert ("thermal",) == limits_between(reading(thermal=500.0), reading(thermal=501.0), 10.0)

    def test_that_was_not_read_before_says_nothing(self) -> None:
        assert () == limits_between(reading(power_cap=0.0), reading(power_cap=0.0, thermal=500.0), 10.0)

    def test_is_one_of_several_and_each_is_judged_by_itself(self) -> None:
        before = reading(board_limit=1.0, reliability=1.0, thermal=1.0)
        after = reading(board_limit=1.05, reliability=2.0, thermal=3.0)
        assert ("reliability", "thermal") == limits_between(before, after, 10.0)


class TestAMissingReading:
    def test_after_leaves_nothing_to_say(self) -> None:
        assert () == limits_between(reading("hw_thermal", thermal=1.0), None, 10.0)

    def test_on_either_side_leaves_nothing_to_say(self) -> None:
        assert () == limits_between(None, None, 10.0)

    def test_of_what_holds_now_leaves_the_counters(self) -> None:
        silent = DeviceReading(
            sm_clock_mhz=None, power_w=None, temperature_c=None, limits=None, limited_s={"thermal": 5.0}
        )
        assert ("thermal",) == limits_between(reading(thermal=0.0), silent, 10.0)

    @pytest.mark.parametrize("missing", ["before", "after"])
    def test_of_the_counters_leaves_what_holds_now(self, missing: str) -> None:
        counted = {"before": reading(thermal=0.0), "after": reading("hw_slowdown", thermal=5.0)}
        limits = counted[missing].limits
        counted[missing] = DeviceReading(
            sm_clock_mhz=2000, power_w=300.0, temperature_c=50, limits=limits, limited_s=None
        )
        assert ("hw_slowdown",) == limits_between(counted["before"], counted["after"], 10.0)


class TestThrottling:
    @pytest.mark.parametrize(
        "cause", ["hw_slowdown", "sw_thermal", "hw_thermal", "power_brake", "thermal", "board_limit", "reliability"]
    )
    def test_is_heat_and_failing_supply(self, cause: str) -> None:
        assert (cause,) == throttles((cause,))

    def test_is_not_the_power_cap_which_limits_every_device_of_its_kind(self) -> None:
        limits = limits_between(reading(power_cap=0.0), reading("power_cap", power_cap=10.0), 10.0)
        assert (("power_cap",), ()) == (limits, throttles(limits))

    def test_is_not_a_clock_that_follows_its_neighbours(self) -> None:
        assert () == throttles(("sync_boost",))

    def test_is_picked_out_of_the_limits(self) -> None:
        assert ("hw_thermal", "thermal") == throttles(("hw_thermal", "power_cap", "sync_boost", "thermal"))

    def test_is_nothing_where_nothing_limits(self) -> None:
        assert () == throttles(())
