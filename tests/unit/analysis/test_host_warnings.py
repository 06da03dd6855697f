"""Steps that vary from block to block and a host that is busy with other things are told of, and only then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from runs import scripted_samples
from translations import left_in_english

from kvbench.analysis.warnings import run_warnings
from kvbench.plan import Plan
from kvbench.records.samples import RunSamples
from kvbench.records.timings import Block


def measured(blocks: int = 5) -> tuple[Plan, RunSamples]:
    """Every step takes as long as the one before, and nobody else is there."""
    return scripted_samples(f"measure.blocks={blocks}")


def with_steps(samples: RunSamples, factors: Sequence[float], arm: int = 1, lane: str = "throughput") -> RunSamples:
    """The same samples, but one arm decoded so many times as long in each block, in one lane."""

    def changed(block: Block, factor: float) -> Block:
        visits = tuple(
            replace(each, decode_s=each.decode_s * factor) if (each.arm, each.lane) == (arm, lane) else each
            for each in block.visits
        )
        return replace(block, visits=visits)

    blocks = [changed(block, factor) for block, factor in zip(samples.all_blocks, factors, strict=True)]
    return replace(samples, all_blocks=blocks)


def with_others(samples: RunSamples, cores: Sequence[float | None]) -> RunSamples:
    """The same samples, but others kept so many cores busy in each block."""
    blocks = [replace(block, other_cores=busy) for block, busy in zip(samples.all_blocks, cores, strict=True)]
    assert samples.prepared is not None
    environment = {**samples.prepared.environment, "logical_cores": 8}
    return replace(samples, all_blocks=blocks, prepared=replace(samples.prepared, environment=environment))


def told(plan: Plan, samples: RunSamples, code: str) -> list[str]:
    found = run_warnings(plan, samples)
    assert [] == left_in_english((f"warning.{warning.code}", warning.detail) for warning in found)
    return [warning.detail for warning in found if warning.code == code]


class TestNoise:
    def test_is_told_of_the_arm_whose_steps_vary_with_how_much_and_what_to_do(self) -> None:
        plan, samples = measured()
        # The distances from the median are 0, 0.05, 0.05, 0.1 and 0.1: their median times 1.4826 is 7.4 %.
        (detail,) = told(plan, with_steps(samples, (0.9, 0.95, 1.0, 1.05, 1.1)), "noise")
        assert "cached: a decode step varies by 7% from block to block: raise measure.blocks" in detail

    def test_tells_of_blocks_that_stand_out_which_the_deviation_does_not_see(self) -> None:
        plan, samples = measured()
        (detail,) = told(plan, with_steps(samples, (0.92, 0.95, 1.0, 1.06, 40.0)), "noise")
        assert "varies by 9% from block to block, and of 5 blocks 1 stands out, up to 40 times the median:" in detail

    def test_is_told_of_each_arm_by_itself(self) -> None:
        plan, samples = measured()
        factors = (0.9, 0.95, 1.0, 1.05, 1.1)
        both = with_steps(with_steps(samples, factors, arm=0), factors, arm=1)
        assert ["nocache", "cached"] == [detail.partition(":")[0] for detail in told(plan, both, "noise")]
        assert ["nocache"] == [
            detail.partition(":")[0] for detail in told(plan, with_steps(samples, factors, arm=0), "noise")
        ]

    # The robust deviation is 1.4826 times the median distance, and a twentieth of it is 0.03372.
    @pytest.mark.parametrize(("distance", "warned"), [(0.0336, False), (0.0339, True)])
    def test_is_told_of_beyond_a_twentieth_of_the_median(self, distance: float, warned: bool) -> None:
        plan, samples = measured()
        factors = (1 - 2 * distance, 1 - distance, 1.0, 1 + distance, 1 + 2 * distance)
        assert warned == bool(told(plan, with_steps(samples, factors), "noise"))

    def test_is_relative_to_the_arm_s_own_step(self) -> None:
        plan, samples = measured()
        factors = (0.9, 0.95, 1.0, 1.05, 1.1)
        slow = with_steps(samples, [100 * factor for factor in factors])
        assert told(plan, with_steps(samples, factors), "noise") == told(plan, slow, "noise")

    def test_is_not_one_odd_block(self) -> None:
        plan, samples = measured()
        assert [] == told(plan, with_steps(samples, (1.0, 1.01, 0.99, 1.0, 50.0)), "noise")

    def test_is_not_that_of_the_lane_of_steps(self) -> None:
        plan, samples = measured()
        assert [] == told(plan, with_steps(samples, (0.5, 0.7, 1.0, 1.3, 1.5), lane="steps"), "noise")

    def test_is_not_in_blocks_that_are_all_alike(self) -> None:
        assert [] == told(*measured(), "noise")

    def test_is_not_told_of_a_single_block_nor_of_none(self) -> None:
        plan, samples = measured(1)
        assert [] == told(plan, with_steps(samples, (3.0,)), "noise")
        assert [] == told(plan, replace(samples, all_blocks=[]), "noise")

    def test_is_told_from_two_blocks_on(self) -> None:
        plan, samples = measured(2)
        assert 1 == len(told(plan, with_steps(samples, (0.9, 1.1)), "noise"))

    def test_of_blocks_that_others_stand_for_does_not_count(self) -> None:
        plan, samples = measured(6)
        noisy = with_steps(samples, (0.5, 1.0, 1.5, 1.0, 0.5, 1.0))
        assert 1 == len(told(plan, noisy, "noise"))
        repeats = (None, 0, None, 2, None, 4)
        blocks = [replace(block, repeats=of) for block, of in zip(noisy.all_blocks, repeats, strict=True)]
        assert [] == told(plan, replace(noisy, all_blocks=blocks), "noise")


class TestABusyHost:
    def test_is_told_of_with_the_cores_and_what_it_means(self) -> None:
        plan, samples = measured()
        (detail,) = told(plan, with_others(samples, [2.5] * 5), "host_busy")
        assert "other processes kept 2.5 CPU cores busy during the blocks" in detail

    @pytest.mark.parametrize(("cores", "warned"), [(0.0, False), (0.5, False), (0.51, True), (6.0, True)])
    def test_is_one_where_others_keep_more_than_half_a_core_busy(self, cores: float, warned: bool) -> None:
        plan, samples = measured()
        assert warned == bool(told(plan, with_others(samples, [cores] * 5), "host_busy"))

    def test_is_judged_by_the_median_of_the_blocks(self) -> None:
        plan, samples = measured()
        assert [] == told(plan, with_others(samples, [0.1, 0.2, 0.1, 8.0, 8.0]), "host_busy")
        (detail,) = told(plan, with_others(samples, [0.1, 0.2, 1.5, 8.0, 8.0]), "host_busy")
        assert "kept 1.5 CPU cores" in detail

    def test_is_judged_by_the_blocks_that_were_long_enough_to_tell(self) -> None:
        plan, samples = measured()
        assert [] == told(plan, with_others(samples, [None, None, 0.1, None, 0.2]), "host_busy")
        assert 1 == len(told(plan, with_others(samples, [None, None, 2.0, None, None]), "host_busy"))

    def test_is_not_told_of_where_no_block_was(self) -> None:
        plan, samples = measured()
        assert [] == told(plan, with_others(samples, [None] * 5), "host_busy")
        assert [] == told(plan, replace(samples, all_blocks=[]), "host_busy")

    def test_is_not_one_for_a_throttled_block_that_another_stands_for(self) -> None:
        plan, samples = measured(2)
        busy = with_others(samples, [4.0, 0.1])
        busy.all_blocks[1] = replace(busy.all_blocks[1], repeats=0)
        assert [] == told(plan, busy, "host_busy")
