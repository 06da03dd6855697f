"""A verdict needs its whole interval on one side of the band, and enough blocks."""

from __future__ import annotations

import math

import pytest

from kvbench.analysis.comparison import LEAST_BLOCKS, compare_arms, speedup, verdict_of
from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.records.run_record import ArmRecord, Speedup
from kvbench.records.untimed import Memory

HIGH = 1 + RELEVANT_WITHIN_A_RUN
LOW = 1 / (1 + RELEVANT_WITHIN_A_RUN)


def ratio(low: float | None, high: float | None, blocks: int = LEAST_BLOCKS) -> Speedup:
    return Speedup(estimator="", value=low, ci_low=low, ci_high=high, level=0.95, n_blocks=blocks)


def above(value: float) -> float:
    return math.nextafter(value, math.inf)


def below(value: float) -> float:
    return math.nextafter(value, 0)


class TestAVerdict:
    @pytest.mark.parametrize(
        ("low", "high", "verdict"),
        [
            (above(HIGH), 2.0, "FASTER"),
            (HIGH, 2.0, "AMBIGUOUS"),
            (HIGH, HIGH, "SAME"),
            (0.5, below(LOW), "SLOWER"),
            (0.5, LOW, "AMBIGUOUS"),
            (LOW, LOW, "SAME"),
            (LOW, HIGH, "SAME"),
            (below(LOW), HIGH, "AMBIGUOUS"),
            (LOW, above(HIGH), "AMBIGUOUS"),
            (1.0, 1.0, "SAME"),
            (0.5, 2.0, "AMBIGUOUS"),
            (1.005, 1.02, "AMBIGUOUS"),
        ],
    )
    def test_at_the_edges_of_the_band(self, low: float, high: float, verdict: str) -> None:
        assert verdict == verdict_of(ratio(low, high))

    def test_turns_round_when_the_arms_do(self) -> None:
        mirror = {"FASTER": "SLOWER", "SLOWER": "FASTER", "SAME": "SAME", "AMBIGUOUS": "AMBIGUOUS"}
        for low, high in ((1.02, 1.5), (0.7, 0.8), (0.995, 1.005), (0.9, 1.1), (1.011, 1.012), (1.0, 1.05)):
            assert mirror[verdict_of(ratio(low, high))] == verdict_of(ratio(1 / high, 1 / low))

    @pytest.mark.parametrize("blocks", range(LEAST_BLOCKS + 2))
    def test_needs_its_blocks(self, blocks: int) -> None:
        assert (blocks < LEAST_BLOCKS) == (verdict_of(ratio(2.0, 3.0, blocks)) == "INVALID")

    @pytest.mark.parametrize(("low", "high"), [(None, None), (2.0, None), (None, 0.5)])
    def test_needs_an_interval(self, low: float | None, high: float | None) -> None:
        assert "INVALID" == verdict_of(ratio(low, high, 100))

    def test_is_as_strict_as_the_band_is_wide(self) -> None:
        assert "FASTER" == verdict_of(ratio(1.02, 1.03), relevance=0.01)
        assert "SAME" == verdict_of(ratio(1.02, 1.03), relevance=0.05)


class TestASpeedUp:
    def test_is_the_geometric_mean_of_pairs(self) -> None:
        found = speedup([1.0, 2.0], [2.0, 16.0])
        assert 4.0 == pytest.approx(found.value)
        assert 2 == found.n_blocks

    def test_of_the_arms_turned_round_is_its_inverse(self) -> None:
        one, two = [1.0, 1.1, 0.9, 1.05, 1.0], [2.0, 2.3, 1.7, 2.2, 1.9]
        there, back = speedup(one, two), speedup(two, one)
        assert [there.value, there.ci_low, there.ci_high] == pytest.approx(
            [1 / (back.value or 0), 1 / (back.ci_high or 0), 1 / (back.ci_low or 0)]
        )

    def test_of_one_block_has_no_interval(self) -> None:
        found = speedup([1.0], [3.0])
        assert (pytest.approx(3.0), None, None, None, 1) == (
            found.value,
            found.ci_low,
            found.ci_high,
            found.level,
            found.n_blocks,
        )

    def test_of_none_is_null(self) -> None:
        assert (None, 0) == ((found := speedup([], [])).value, found.n_blocks)

    @pytest.mark.parametrize(("old", "new"), [([1.0, None], [2.0, 2.0]), ([1.0, 1.0], [None, 2.0])])
    def test_of_a_block_that_lacks_a_figure_is_null(self, old: list[float | None], new: list[float | None]) -> None:
        found = speedup(old, new)
        assert (None, None, 1) == (found.value, found.ci_low, found.n_blocks)

    def test_of_blocks_that_do_not_pair_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            speedup([1.0], [1.0, 2.0])

    def test_does_not_see_what_both_arms_of_a_block_share(self) -> None:
        drift = [1.0, 2.0, 4.0, 8.0, 16.0]
        found = speedup(drift, [3 * rate for rate in drift])
        assert [3.0, 3.0, 3.0] == pytest.approx([found.value, found.ci_low, found.ci_high])


def arms_with_peaks(*peaks: int | None) -> list[ArmRecord]:
    """Arms whose caches are known, whatever is known of their peaks."""
    known = dict.fromkeys(Memory.model_fields, 0)
    memories = [Memory(**{**known, "peak_allocated_bytes": peak, "reconciliation": None}) for peak in peaks]
    return [ArmRecord.model_construct(memory=memory) for memory in memories]


class TestExtraMemory:
    @pytest.mark.parametrize(
        ("peaks", "extra"), [((7, 9), 2), ((9, 7), -2), ((None, 9), None), ((7, None), None), ((None, None), None)]
    )
    def test_is_a_difference_of_two_peaks_or_unknown(
        self, peaks: tuple[int | None, int | None], extra: int | None
    ) -> None:
        assert extra == compare_arms(arms_with_peaks(*peaks), [[], []], 1, None, ()).extra_memory_bytes
