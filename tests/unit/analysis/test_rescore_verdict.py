"""The verdict on log-probabilities: what counts as rounding, what does not, and the figures beside it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from kvbench.analysis.rescore_verdict import judge_rescore
from kvbench.records.rescoring import RescoreSamples, ScoredSequence, Scores, WayTried
from kvbench.statistics import slope_interval

ROUNDING = 1e-3
LENGTH = 64
ENDS = WayTried("sums from the other end", by_product=True)
ROWS = WayTried("twice the rows", by_product=False)


def noise(seed: int, size: float = ROUNDING, length: int = LENGTH) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, size, length)


def samples(*errors: np.ndarray, **changes: object) -> RescoreSamples:
    """Sequences whose decode is off by `errors` of a wider type's pass; two other orders of summing beside it."""
    sequences = []
    for number, error in enumerate(errors):
        length = len(error)
        exact = -np.random.default_rng(90 + number).exponential(1.0, length)
        rows = [exact + noise(10 * number + each, length=length) for each in range(3)]
        scores = Scores(
            rescored=tuple(rows[0]), reference=tuple(exact), weights=(1.0,) * length,
            others={ENDS.name: tuple(rows[1]), ROWS.name: tuple(rows[2])}, logit_rms=1e-2, largest_logit=20.0,
        )  # fmt: skip
        sequences.append(ScoredSequence(number, tuple(exact + error), scores))
    base = RescoreSamples(0, "bfloat16", tuple(sequences), (ENDS, ROWS), reference="float32")
    return replace(base, **changes)  # type: ignore[arg-type]


def at(place: int, size: float, seed: int = 5) -> np.ndarray:
    error = noise(seed)
    error[place] = size
    return error


class TestTheVerdict:
    def test_is_equality_where_errors_are_of_roundings_size(self) -> None:
        for seed in range(20):
            found = judge_rescore(samples(noise(100 + seed), noise(200 + seed)))
            assert "EQUAL_WITHIN_ROUNDING" == found.verdict, found.detail
            assert found.error is not None
            assert 0.7 < found.error.ratio < 1.4

    def test_is_a_mismatch_where_they_are_three_times_as_large(self) -> None:
        found = judge_rescore(samples(noise(100, 3 * ROUNDING), noise(200, 3 * ROUNDING)))
        assert "MISMATCH" == found.verdict
        assert "rounding's own over all 128 positions" in found.detail

    def test_is_a_mismatch_where_one_sequence_of_many_is_wrong(self) -> None:
        found = judge_rescore(samples(noise(100, 4 * ROUNDING), *(noise(each) for each in range(200, 220))))
        assert "MISMATCH" == found.verdict
        assert "rounding's own in prompt 1" in found.detail

    def test_is_equality_for_hundreds_of_answers_of_one_token_with_heavy_tails(self) -> None:
        dice = np.random.default_rng(3)
        heavy = [dice.standard_t(4, 1) * ROUNDING for _ in range(500)]
        found = judge_rescore(samples(*heavy))
        assert "EQUAL_WITHIN_ROUNDING" == found.verdict, found.detail

    def test_is_a_mismatch_where_one_position_is_wrong_beyond_a_heavy_tail(self) -> None:
        assert "EQUAL_WITHIN_ROUNDING" == judge_rescore(samples(at(7, 15 * ROUNDING))).verdict
        found = judge_rescore(samples(at(7, 40 * ROUNDING)))
        assert ("MISMATCH", 7, 0) == (found.verdict, found.first_beyond, found.first_beyond_sequence)
        assert "at position 7 of the answer to prompt 1" in found.detail

    def test_lets_a_router_choose_otherwise_at_one_position(self) -> None:
        assert "MISMATCH" == judge_rescore(samples(at(7, 300 * ROUNDING))).verdict
        found = judge_rescore(samples(at(7, 300 * ROUNDING), experts=True))
        assert "EQUAL_WITHIN_ROUNDING" == found.verdict
        assert "not judged, since routers at near-ties choose other experts" in found.detail
        assert "MISMATCH" == judge_rescore(samples(noise(3, 5 * ROUNDING), experts=True)).verdict

    def test_is_identity_where_every_number_is_the_same(self) -> None:
        found = samples(noise(1))
        same = replace(found.sequences[0], decoded=found.sequences[0].scores.rescored)
        assert "IDENTICAL" == judge_rescore(replace(found, sequences=(same,))).verdict

    def test_has_four_times_the_room_without_a_wider_type(self) -> None:
        tight = judge_rescore(samples(noise(100, 4 * ROUNDING)))
        roomy = judge_rescore(samples(noise(100, 4 * ROUNDING), reference="", without_reference="there is no room"))
        assert ("MISMATCH", "EQUAL_WITHIN_ROUNDING") == (tight.verdict, roomy.verdict)
        assert "since there is no room" in roomy.detail

    def test_leaves_out_what_is_no_other_order_of_the_same_sums(self) -> None:
        found = samples(noise(1))
        scores = found.sequences[0].scores
        others = {**scores.others, ROWS.name: tuple(np.asarray(scores.rescored) + 1.0)}
        wrong = replace(found.sequences[0], scores=replace(scores, others=others))
        judged = judge_rescore(replace(found, sequences=(wrong,)))
        assert "EQUAL_WITHIN_ROUNDING" == judged.verdict
        (left_out,) = [way for way in judged.ways if way.skipped]
        assert "twice the rows" == left_out.way
        assert "another computation in this model" in left_out.skipped
        assert left_out.mean_abs_difference is None

    @pytest.mark.parametrize("value", [math.nan, -math.inf])
    def test_is_none_where_a_number_is_none(self, value: float) -> None:
        found = judge_rescore(samples(at(3, value)))
        assert found.verdict is None
        assert "that decoding gave at position 3 of the answer to prompt 1 is not a finite number" in found.detail
        assert found.k1 is None

    def test_is_none_where_no_other_order_of_summing_could_be_tried(self) -> None:
        tried = samples(noise(1), reference="", ways=(replace(ENDS, skipped="no kernel"),))
        found = judge_rescore(tried)
        assert found.verdict is None
        assert "what rounding alone does could not be measured (sums from the other end: no kernel)" in found.detail
        assert found.k3 is not None

    def test_tells_a_quantised_cache_from_one_that_is_wrong_too(self) -> None:
        loss = noise(7, 0.1)
        lossy = samples(loss, cache="fp8", worst_steps=0.5)
        decoded = np.asarray(lossy.sequences[0].decoded)

        def beside(error: np.ndarray, worst_steps: float) -> tuple[str | None, str]:
            kept = replace(lossy.sequences[0], kept=tuple(decoded + error))
            found = judge_rescore(replace(lossy, sequences=(kept,), worst_steps=worst_steps))
            return found.verdict, found.differs_by

        assert (None, "quantised cache") == beside(noise(8), 0.5)
        assert ("MISMATCH", "") == beside(noise(8, 0.05), 0.5)
        assert ("MISMATCH", "") == beside(noise(8), 9.0)

    def test_counts_a_sure_token_as_much_as_an_unsure_one(self) -> None:
        # The same relative error at a token of probability 1 - 1e-4 moves its log-probability 1e-4 times as much.
        found = samples(noise(1, 10 * ROUNDING))
        scores = found.sequences[0].scores
        sure = replace(
            scores,
            weights=(1e-4,) * LENGTH,
            reference=tuple(-1e-4 for _ in range(LENGTH)),
            rescored=tuple(-1e-4 + 1e-4 * noise(2)),
            others={ENDS.name: tuple(-1e-4 + 1e-4 * noise(3))},
        )
        wrong = ScoredSequence(0, tuple(-1e-4 + 1e-4 * noise(4, 10 * ROUNDING)), sure)
        right = ScoredSequence(0, tuple(-1e-4 + 1e-4 * noise(4)), sure)
        verdicts = [judge_rescore(replace(found, ways=(ENDS,), sequences=(each,), dtype="float32")).verdict
                    for each in (wrong, right)]  # fmt: skip
        assert ["MISMATCH", "EQUAL_WITHIN_ROUNDING"] == verdicts


class TestTheFigures:
    def test_are_schulmans_estimators_and_the_share_of_large_ratios(self) -> None:
        found = samples(np.zeros(4))
        rescored = np.asarray(found.sequences[0].scores.rescored)
        logs = np.log([1.0, 1.25, 0.5, 1.19])  # of re-scored over decoded probability
        judged = judge_rescore(replace(found, sequences=(replace(found.sequences[0], decoded=tuple(rescored - logs)),)))
        assert -logs.mean() == pytest.approx(judged.k1)
        assert (np.exp(logs) - 1 - logs).mean() == pytest.approx(judged.k3)
        assert 0.5 == judged.share_over
        assert tuple(logs) == pytest.approx(judged.differences[0])

    def test_a_ratio_beyond_all_numbers_has_no_k3_and_a_reason(self) -> None:
        found = judge_rescore(samples(at(3, -800.0)))
        assert found.k3 is None
        assert "a ratio is too large for a number" == found.why_null("k3")
        assert found.k1 is not None

    def test_a_single_token_has_no_drift(self) -> None:
        found = judge_rescore(samples(np.array([0.0])))
        assert found.drift_per_1000 is None
        assert "too short for a drift" in found.detail

    def test_long_answers_are_drawn_in_a_few_hundred_points_at_most(self) -> None:
        found = judge_rescore(samples(noise(1, length=1001)))
        assert len(found.by_position) <= 200
        assert 0 == found.by_position[0].position
        assert 1001 == len(found.differences[0])


class TestASlope:
    def test_is_exact_on_a_line(self) -> None:
        found = slope_interval([0, 1, 2, 5], [1.0, 3.0, 5.0, 11.0])
        assert found is not None
        assert (2.0, 2.0, 2.0) == pytest.approx((found.value, found.low, found.high))

    def test_covers_the_truth_as_often_as_it_says_where_errors_grow(self) -> None:
        dice = np.random.default_rng(0)
        places = np.arange(80.0)
        hits = 0
        for _ in range(300):
            found = slope_interval(places.tolist(), (0.5 * places + dice.normal(0, 1 + places / 5)).tolist())
            assert found is not None
            hits += found.low <= 0.5 <= found.high
        assert 0.91 < hits / 300 <= 0.99

    @pytest.mark.parametrize(("x", "y"), [([], []), ([1, 2], [1, 2]), ([3, 3, 3], [1, 2, 3])])
    def test_is_none_where_there_is_none(self, x: list[float], y: list[float]) -> None:
        assert slope_interval(x, y) is None
