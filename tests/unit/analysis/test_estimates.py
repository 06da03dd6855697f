"""One block is one sample: what lies inside it is summed first, and nothing is made up where there is too little."""

from __future__ import annotations

import pytest

from kvbench.analysis.estimates import block_figures, estimate, step_lane_cost, token_percentiles, trace_cost
from kvbench.records.timings import Block, Visit


def visit(arm: int = 0, lane: str = "throughput", **changes: object) -> Visit:
    """5 tokens of one sequence: a prefill of 1 s and 4 steps of 0.5 s."""
    fields = {
        "batch": 0,
        "ttft_s": 1.0,
        "decode_s": 2.0,
        "decode_device_s": None,
        "decode_enqueue_s": 0.0,
        "sequences": 1,
        "new_tokens": 5,
        "steps": 4,
        "step_s": (0.5,) * 4 if lane == "steps" else None,
        "tokens_sha256": "",
        "passes_checked": 5,
        "violations": 0,
    }
    return Visit(arm=arm, lane=lane, **{**fields, **changes})  # type: ignore[arg-type]


def block(*visits: Visit, index: int = 0) -> Block:
    return Block(index, (0, 1), "2026-01-01T00:00:00+00:00", 1.0, visits)


class TestABlockSFigures:
    def test_are_rates_without_and_with_the_prefill(self) -> None:
        (figures,) = block_figures([block(visit())], 0)
        assert (1.0, 0.5, 2.0, 5 / 3) == (
            figures.ttft_s,
            figures.itl_s,
            figures.decode_tokens_per_s,
            figures.end_to_end_tokens_per_s,
        )

    def test_sum_over_batches_and_count_every_sequence(self) -> None:
        second = visit(batch=1, ttft_s=3.0, decode_s=6.0, sequences=2, new_tokens=10)
        (figures,) = block_figures([block(visit(), second)], 0)
        # 4 + 8 tokens after the first ones in 8 s, 8 forward passes in 8 s, 15 tokens in 12 s
        assert (2.0, 1.0, 1.5, 1.25) == (
            figures.ttft_s,
            figures.itl_s,
            figures.decode_tokens_per_s,
            figures.end_to_end_tokens_per_s,
        )

    def test_leave_out_other_arms_and_the_lane_of_steps(self) -> None:
        others = (visit(arm=1, decode_s=99.0), visit(lane="steps", decode_s=99.0))
        assert block_figures([block(visit())], 0) == block_figures([block(visit(), *others)], 0)

    def test_lack_a_rate_when_every_sequence_ended_with_its_first_token(self) -> None:
        (figures,) = block_figures([block(visit(decode_s=0.0, new_tokens=1, steps=0))], 0)
        assert (None, None, 1.0) == (figures.itl_s, figures.decode_tokens_per_s, figures.end_to_end_tokens_per_s)

    def test_are_one_entry_per_block(self) -> None:
        blocks = [block(visit(ttft_s=float(number)), index=number) for number in range(1, 4)]
        assert [1.0, 2.0, 3.0] == [figures.ttft_s for figures in block_figures(blocks, 0)]


class TestAnEstimate:
    def test_of_no_blocks_is_null(self) -> None:
        nothing = estimate([])
        assert (None, None, None, None, 0) == (
            nothing.value,
            nothing.ci_low,
            nothing.ci_high,
            nothing.level,
            nothing.n,
        )

    def test_of_a_block_without_the_figure_is_null(self) -> None:
        gap = estimate([1.0, None, 3.0])
        assert (None, None, 2) == (gap.value, gap.ci_low, gap.n)

    def test_of_five_blocks_has_no_interval_and_of_six_has_the_extremes(self) -> None:
        five, six = estimate([5.0, 1.0, 2.0, 4.0, 3.0]), estimate([6.0, 1.0, 2.0, 5.0, 4.0, 3.0])
        assert (3.0, None, None, None, 5) == (five.value, five.ci_low, five.ci_high, five.level, five.n)
        assert (3.5, 1.0, 6.0, 6) == (six.value, six.ci_low, six.ci_high, six.n)
        assert 1 - 2 / 2**6 == pytest.approx(six.level)  # both tails of a fair coin thrown six times

    def test_is_the_median_whatever_one_block_did(self) -> None:
        assert 1.0 == estimate([1.0] * 7 + [1000.0]).value


class TestPercentiles:
    @pytest.mark.parametrize(
        ("count", "known"),
        [
            (0, []),
            (1, ["p50"]),
            (63, ["p50"]),
            (64, ["p50", "p90"]),
            (129, ["p50", "p90"]),
            (130, ["p50", "p90", "p95"]),
            (661, ["p50", "p90", "p95"]),
            (662, ["p50", "p90", "p95", "p99"]),
        ],
    )
    def test_are_null_below_the_steps_that_they_need(self, count: int, known: list[str]) -> None:
        steps = token_percentiles([block(visit(lane="steps", step_s=(0.1,) * count))], 0)
        assert count == steps.n_tokens
        assert known == [name for name in ("p50", "p90", "p95", "p99") if getattr(steps, name) is not None]

    def test_are_of_single_steps_of_the_arm_s_own_lane(self) -> None:
        own = visit(lane="steps", step_s=(1.0, 2.0, 9.0))
        others = (visit(arm=1, lane="steps", step_s=(50.0,) * 9), visit(step_s=(70.0,) * 9))
        assert (2.0, 3) == (
            (found := token_percentiles([block(own, *others)], 0)).p50,
            found.n_tokens,
        )


class TestTheCostOfWatching:
    def test_is_the_median_of_the_blocks(self) -> None:
        blocks = [block(visit(decode_s=2.0), visit(lane="steps", decode_s=watched)) for watched in (2.2, 2.4, 30.0)]
        assert 0.2 == pytest.approx(step_lane_cost(blocks, 0))

    def test_is_unknown_without_the_lane_of_steps(self) -> None:
        assert step_lane_cost([block(visit())], 0) is None

    def test_of_a_trace_is_its_own_lane_s(self) -> None:
        blocks = [
            block(visit(decode_s=2.0), visit(lane="steps", decode_s=9.0), visit(lane="trace", decode_s=traced))
            for traced in (2.5, 3.0, 40.0)
        ]
        assert 0.5 == pytest.approx(trace_cost(blocks, 0))
        assert trace_cost([block(visit(), visit(lane="steps"))], 0) is None
