"""What the device was like over the blocks is summed up, and a reader is told what bears on the times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from translations import left_in_english

from kvbench.analysis.warnings import device_during, device_warnings
from kvbench.records.evidence import DeviceDuring, HostSample
from kvbench.records.samples import Prepared, RunSamples
from kvbench.records.timings import Block, DeviceReading

GIB = 1 << 30


def reading(clock: int | None = 2000, *limits: str, **changes: Any) -> DeviceReading:
    fields = {"power_w": 300.0, "temperature_c": 50, "limited_s": {}, **changes}
    return DeviceReading(sm_clock_mhz=clock, limits=limits, **fields)


def block(index: int, before: DeviceReading | None, after: DeviceReading | None, **changes: Any) -> Block:
    return Block(
        index, (0, 1), "2026-01-01T00:00:00+00:00", 10.0, (), device_before=before, device_after=after, **changes
    )


def ending_at(*clocks: int | None) -> list[Block]:
    """A block for each clock, which was read at its end."""
    return [block(index, reading(), reading(clock)) for index, clock in enumerate(clocks)]


def samples(blocks: Sequence[Block] = (), used_bytes: Sequence[int | None] = (), **environment: object) -> RunSamples:
    return RunSamples(
        prepared=Prepared({}, environment, (), (), 0.0),
        all_blocks=list(blocks),
        host_readings=[
            HostSample(elapsed_s=0.0, phase="blocks", process_rss_bytes=None, device_used_bytes=used)
            for used in used_bytes
        ],
    )


def told(found: RunSamples) -> dict[str, str]:
    warnings = device_warnings(found)
    assert [] == left_in_english((f"warning.{warning.code}", warning.detail) for warning in warnings)
    return {warning.code: warning.detail for warning in warnings}


class TestTheSummary:
    def test_is_of_the_readings_on_both_sides_of_the_blocks_and_of_the_clocks_at_their_ends(self) -> None:
        blocks = [
            block(0, reading(300, power_w=90.0, temperature_c=70), reading(1980, power_w=650.0, temperature_c=60)),
            block(1, reading(1500, power_w=700.0, temperature_c=50), reading(1900, power_w=600.0, temperature_c=65)),
        ]
        assert DeviceDuring(
            sm_clock_mhz_min=1900,
            sm_clock_mhz_max=1980,
            power_w_max=700.0,
            temperature_c_max=70,
            limited_blocks={},
            throttled_blocks=(),
            repeated_blocks=(),
        ) == device_during(blocks)

    def test_counts_the_blocks_that_each_cause_touched(self) -> None:
        blocks = [
            block(0, reading(2000, "hw_thermal"), reading(2000, "power_cap")),
            block(1, reading(2000, "power_cap"), reading(2000, "power_cap", "hw_thermal")),
            block(2, reading(limited_s={"thermal": 1.0}), reading(limited_s={"thermal": 9.0})),
            block(3, reading(limited_s={"thermal": 9.0}), reading(limited_s={"thermal": 9.05})),
        ]
        during = device_during(blocks)
        assert during is not None
        assert [("hw_thermal", 1), ("power_cap", 2), ("thermal", 1)] == list(during.limited_blocks.items())

    def test_lists_the_blocks_that_were_throttled_and_those_that_others_stand_for(self) -> None:
        blocks = [
            block(0, reading(), reading(), throttled=("hw_thermal",)),
            block(1, reading(), reading(), throttled=("hw_thermal",), repeats=0),
            block(2, reading(), reading()),
        ]
        during = device_during(blocks)
        assert during is not None
        assert ((0, 1), (0,)) == (during.throttled_blocks, during.repeated_blocks)

    def test_makes_do_with_what_the_device_tells(self) -> None:
        partly = reading(None, power_w=None, temperature_c=None, limited_s=None)
        during = device_during([block(0, partly, partly), block(1, None, reading(1900, temperature_c=None))])
        assert during is not None
        assert (1900, 1900, 300.0, None) == (
            during.sm_clock_mhz_min,
            during.sm_clock_mhz_max,
            during.power_w_max,
            during.temperature_c_max,
        )

    def test_without_a_reading_at_an_end_has_no_clock(self) -> None:
        during = device_during([block(0, reading(300), None)])
        assert during is not None
        assert (None, None) == (during.sm_clock_mhz_min, during.sm_clock_mhz_max)

    @pytest.mark.parametrize("blocks", [[], [block(0, None, None)]], ids=["no block", "no reading"])
    def test_of_nothing_is_none(self, blocks: list[Block]) -> None:
        assert device_during(blocks) is None


class TestTheClocks:
    @pytest.mark.parametrize(("low", "warned"), [(1899, True), (1900, False), (2000, False)])
    def test_are_told_of_when_the_blocks_ended_at_clocks_more_than_a_twentieth_apart(
        self, low: int, warned: bool
    ) -> None:
        assert warned == ("clocks" in told(samples(ending_at(2000, low, 1950))))

    def test_are_told_with_both_ends_and_the_remedy(self) -> None:
        detail = told(samples(ending_at(1980, 1200, 1755)))["clocks"]
        assert "between 1200 and 1980 MHz" in detail
        assert "nvidia-smi --lock-gpu-clocks" in detail

    def test_are_those_of_a_device_at_work_and_not_of_one_that_idled_before(self) -> None:
        assert {} == told(samples([block(0, reading(300), reading()), block(1, reading(), reading())]))

    def test_of_a_block_that_another_stands_for_do_not_count(self) -> None:
        slow = block(0, reading(), reading(1200, "hw_thermal"), throttled=("hw_thermal",))
        again = block(1, reading(), reading(), repeats=0)
        assert {} == told(samples([slow, again]))
        stays = block(1, reading(), reading(1200, "hw_thermal"), throttled=("hw_thermal",), repeats=0)
        assert ["clocks"] == list(told(samples([slow, stays, block(2, reading(), reading())])))

    @pytest.mark.parametrize("clocks", [(), (None, None), (None, 1900), (1900,)])
    def test_that_are_not_known_or_alone_are_not_told_of(self, clocks: tuple[int | None, ...]) -> None:
        assert {} == told(samples(ending_at(*clocks)))


class TestThePowerCap:
    def test_is_told_of_with_the_blocks_that_it_touched(self) -> None:
        blocks = [
            block(0, reading(), reading(2000, "power_cap")),
            block(1, reading(limited_s={"power_cap": 1.0}), reading(limited_s={"power_cap": 2.0})),
            block(2, reading(2000, "power_cap"), reading()),
        ]
        assert "held its clock down in 2 of 3 blocks" in told(samples(blocks))["power_cap"]

    def test_is_not_told_of_where_another_thing_held_the_clock_down(self) -> None:
        assert {} == told(samples([block(0, reading(), reading(2000, "hw_thermal", "sync_boost"))]))

    def test_in_a_block_that_another_stands_for_does_not_count(self) -> None:
        capped = block(0, reading(), reading(2000, "power_cap", "hw_thermal"), throttled=("hw_thermal",))
        assert {} == told(samples([capped, block(1, reading(), reading(), repeats=0)]))


class TestNeighbours:
    @pytest.mark.parametrize(
        ("others", "words"), [(1, "1 other process computes on"), (3, "3 other processes compute")]
    )
    def test_on_the_device_are_told_of(self, others: int, words: str) -> None:
        assert words in told(samples(other_device_processes=others))["device_shared"]

    @pytest.mark.parametrize("others", [0, None])
    def test_that_are_not_there_or_not_known_are_not_told_of(self, others: int | None) -> None:
        assert {} == told(samples(other_device_processes=others))


class TestMemory:
    @pytest.mark.parametrize(("used", "warned"), [(72 * GIB, False), (72 * GIB + 1, True), (80 * GIB, True)])
    def test_is_told_of_beyond_nine_tenths_of_the_device(self, used: int, warned: bool) -> None:
        found = told(samples(used_bytes=[GIB, used, 2 * GIB], device_memory_bytes=80 * GIB))
        assert warned == ("memory_headroom" in found)

    def test_is_told_of_with_the_share_that_was_used_at_most(self) -> None:
        found = told(samples(used_bytes=[None, 76 * GIB, 10 * GIB], device_memory_bytes=80 * GIB))
        assert "memory was 95% full" in found["memory_headroom"]

    @pytest.mark.parametrize(
        ("used", "total"), [([], 80 * GIB), ([None, None], 80 * GIB), ([79 * GIB], None)], ids=["none", "null", "total"]
    )
    def test_that_is_not_known_is_not_told_of(self, used: list[int | None], total: int | None) -> None:
        assert {} == told(samples(used_bytes=used, device_memory_bytes=total))


class TestSensors:
    def test_that_fell_silent_are_told_of(self) -> None:
        blocks = [block(0, reading(), reading()), block(1, reading(), None), block(2, None, None)]
        assert ["sensors_lost"] == list(told(samples(blocks)))

    def test_that_fell_silent_in_a_single_block_are_told_of(self) -> None:
        assert ["sensors_lost"] == list(told(samples([block(0, reading(), None)])))

    def test_that_missed_one_reading_and_answered_again_are_not(self) -> None:
        blocks = [block(0, reading(), None), block(1, None, reading())]
        assert {} == told(samples(blocks))

    @pytest.mark.parametrize(
        "blocks", [[], [block(0, None, None)], [block(0, reading(), reading())]], ids=["no block", "never", "steady"]
    )
    def test_that_never_answered_or_always_did_are_not(self, blocks: list[Block]) -> None:
        assert {} == told(samples(blocks))


def test_a_run_that_ended_before_it_was_prepared_has_no_warnings() -> None:
    assert {} == told(RunSamples())


def test_every_warning_stands_by_itself() -> None:
    blocks = [block(0, reading(), reading(1200, "power_cap")), block(1, reading(), reading()), block(2, None, None)]
    found = samples(blocks, [75 * GIB], device_memory_bytes=80 * GIB, other_device_processes=2)
    assert ["clocks", "device_shared", "memory_headroom", "power_cap", "sensors_lost"] == sorted(told(found))
