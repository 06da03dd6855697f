"""A block that stands out is labelled with its index, and stays in every figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvbench.analysis.assemble import assemble
from kvbench.analysis.estimates import outliers
from kvbench.config.compose import load_config, sources
from kvbench.plan import Plan, make_plan
from kvbench.records.run_record import RunRecord
from kvbench.records.samples import RunSamples
from kvbench.records.timings import Block
from kvbench.running.job import run_job
from kvbench.running.scripted import ScriptedBackend
from kvbench.statistics import median

STEADY = (1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01)


class TestASampleStandsOut:
    def test_when_it_is_far_from_the_median(self) -> None:
        assert (7,) == outliers([*STEADY, 3.0])

    @pytest.mark.parametrize("place", [0, 3, 7])
    def test_at_its_own_place(self, place: int) -> None:
        assert (place,) == outliers([*STEADY[:place], 3.0, *STEADY[place:]])

    def test_when_it_is_fast_too(self) -> None:
        assert (0,) == outliers([0.3, *STEADY])

    def test_beside_another(self) -> None:
        assert (0, 8) == outliers([0.3, *STEADY, 3.0])

    # The median is 0 and the median distance 1: 0.6745 x 5.189 is 3.5.
    @pytest.mark.parametrize(("sample", "expected"), [(5.18, ()), (5.20, (4,))])
    @pytest.mark.parametrize("side", [1, -1])
    def test_beyond_a_modified_z_score_of_three_and_a_half(
        self, sample: float, expected: tuple[int, ...], side: int
    ) -> None:
        assert expected == outliers([side * each for each in (-2.0, -1.0, 0.0, 1.0, sample)])


class TestNoSampleStandsOut:
    @pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
    def test_among_fewer_than_five(self, count: int) -> None:
        assert () == outliers([1.0, 1.01, 0.99, 100.0][:count])

    def test_among_equal_ones(self) -> None:
        assert () == outliers([1.0] * 8)

    def test_when_half_of_them_are_equal_for_then_there_is_no_spread_to_hold_it_against(self) -> None:
        assert () == outliers([1.0, 1.0, 1.0, 1.0, 1.5, 100.0])

    def test_among_those_that_differ_as_noise_does(self) -> None:
        assert () == outliers(STEADY)


def measured(*overrides: str) -> tuple[Plan, RunSamples]:
    """A scripted run's plan and samples, with a little noise so that its blocks differ."""
    quick = ("model=scripted", "model.noise=0.01", "workload.prompt_tokens=5", "workload.new_tokens=20")
    plan = make_plan(load_config([*quick, "stream.interval=0", *overrides], sources()))
    samples = RunSamples()

    def keep(message: object) -> None:
        if type(message).__name__ != "Progress":
            samples.add(message)  # type: ignore[arg-type]

    run_job(ScriptedBackend(plan.config.model).session(plan), keep)
    return plan, samples


def with_slow_block(samples: RunSamples, index: int, arm: int = 1, factor: float = 3.0) -> RunSamples:
    """The same samples, but one arm decoded so many times as long in one block."""

    def changed(block: Block) -> Block:
        if block.index != index:
            return block
        visits = tuple(
            replace(
                each, decode_s=each.decode_s * factor, step_s=each.step_s and tuple(s * factor for s in each.step_s)
            )
            if each.arm == arm
            else each
            for each in block.visits
        )
        return replace(block, visits=visits)

    return replace(samples, all_blocks=list(map(changed, samples.all_blocks)))


def record(plan: Plan, samples: RunSamples) -> RunRecord:
    return assemble(plan, samples, run_id="r", created_at="2026-01-01T00:00:00+00:00")


def latencies(samples: RunSamples, arm: int) -> list[float]:
    """Seconds of a step by block, from the throughput lane, in which a block has one visit of an arm."""
    return [
        each.decode_s / each.steps
        for block in samples.blocks
        for each in block.visits
        if (each.arm, each.lane) == (arm, "throughput")
    ]


class TestABlockThatStandsOut:
    def test_is_labelled_with_its_index_in_its_own_arm(self) -> None:
        plan, samples = measured()
        assert [(), ()] == [arm.outlier_blocks for arm in record(plan, samples).arms]
        assert [(), (5,)] == [arm.outlier_blocks for arm in record(plan, with_slow_block(samples, 5)).arms]
        assert [(0,), ()] == [arm.outlier_blocks for arm in record(plan, with_slow_block(samples, 0, arm=0)).arms]

    def test_is_kept_in_every_figure(self) -> None:
        plan, samples = measured()
        slow = with_slow_block(samples, 5)
        before, after = (record(plan, each).arms[1] for each in (samples, slow))
        assert [8] * 4 == [
            each.n for each in (after.ttft_s, after.itl_s, after.decode_tokens_per_s, after.end_to_end_tokens_per_s)
        ]
        assert pytest.approx(median(latencies(slow, 1))) == after.itl_s.value
        # The interval of eight blocks is from the least to the greatest.
        assert pytest.approx(max(latencies(slow, 1))) == after.itl_s.ci_high
        assert pytest.approx(1 / max(latencies(slow, 1))) == after.decode_tokens_per_s.ci_low
        assert before.itl_percentiles_s.n_tokens == after.itl_percentiles_s.n_tokens
        assert before.proof == after.proof

    def test_is_kept_in_the_comparison(self) -> None:
        plan, samples = measured()
        before, after = (record(plan, each).comparison for each in (samples, with_slow_block(samples, 5)))
        assert before is not None
        assert after is not None
        assert before.speedup.value is not None
        # In one of eight blocks the speed-up is a third, and the blocks' geometric mean is the figure.
        assert (pytest.approx(before.speedup.value / 3 ** (1 / 8)), 8) == (after.speedup.value, after.speedup.n_blocks)

    def test_does_not_make_the_run_invalid(self) -> None:
        plan, samples = measured()
        assert "ok" == record(plan, with_slow_block(samples, 5)).status

    def test_is_called_by_its_index_where_a_throttled_block_was_measured_again(self) -> None:
        plan, samples = measured("model.sensors=throttled_once", "measure.energy_s=0")
        assert [None, None, None, 2] == [block.repeats for block in samples.all_blocks][:4]
        assert (6,) == record(plan, with_slow_block(samples, 6)).arms[1].outlier_blocks

    def test_is_not_looked_for_among_those_that_another_stands_for(self) -> None:
        plan, samples = measured("model.sensors=throttled_once", "measure.energy_s=0")
        assert () == record(plan, with_slow_block(samples, 2)).arms[1].outlier_blocks

    def test_is_not_looked_for_where_a_block_has_no_step(self) -> None:
        plan, samples = measured()
        slow = with_slow_block(samples, 5)
        first = slow.all_blocks[0]
        ended = tuple(replace(each, steps=0, decode_s=0.0, new_tokens=1) for each in first.visits)
        slow.all_blocks[0] = replace(first, visits=ended)
        assert [(), ()] == [arm.outlier_blocks for arm in record(plan, slow).arms]

    def test_is_not_looked_for_in_fewer_than_five_blocks(self) -> None:
        plan, samples = measured("measure.blocks=4")
        assert () == record(plan, with_slow_block(samples, 3)).arms[1].outlier_blocks
