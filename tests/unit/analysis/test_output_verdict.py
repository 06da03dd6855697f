"""The verdict on an arm's output, and the sentence that says why, from the figures that it rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kvbench.analysis.output_verdict import judge, tolerance
from kvbench.records.agreement_figures import AgreementFigures, AgreementStep, ErrorFigures, NoiseWay, RoutingFigures
from kvbench.rounding_limits import RATIO_OF_ONE, RATIO_OF_TWO, RESOLUTION


def figures_of(**changes: Any) -> AgreementFigures:
    """A comparison in float32 without a wider model, whose logits differ by 1e-7 where rounding alone does 2e-7."""
    whole = AgreementFigures(1, 16, 1e-6, 1e-7, 1e-12, 0, noise_rel=2e-7, noise_abs=2e-6)
    return replace(whole, **changes)


def error_of(
    ratio: float = 1.0, sequence: float = 1.0, step: float = 1.0, second: float = 1.0, first: float = 1.0
) -> ErrorFigures:
    """Errors over 64 steps and rows, in multiples of rounding's."""
    return ErrorFigures(
        reference="float32",
        ratio=ratio,
        samples=64,
        first_arm_ratio=first,
        sequence_ratio=sequence,
        sequence=3,
        sequence_samples=16,
        step_ratio=step,
        second_ratio=second,
        step=9,
        step_sequence=2,
        larger_steps=30,
    )


class TestTheVerdict:
    def test_allows_five_times_the_noise_and_never_less_than_the_type_can_tell(self) -> None:
        assert 5 * 2e-7 == tolerance(2e-7, "float32")
        assert 5 * 2.0**-23 == tolerance(0.0, "float32")
        assert 5 * 2.0**-7 == tolerance(0.0, "bfloat16")
        assert float(torch.finfo(torch.float32).eps) == RESOLUTION["float32"]
        assert float(torch.finfo(torch.bfloat16).eps) == RESOLUTION["bfloat16"]
        assert float(torch.finfo(torch.float16).eps) == RESOLUTION["float16"]

    def test_does_not_accuse_what_measured_rounding_explains(self) -> None:
        assert (
            "EQUAL_WITHIN_ROUNDING"
            == judge(figures_of(dtype="bfloat16", noise_rel=0.09, max_rel_logit_diff=0.13)).verdict
        )

    @pytest.mark.parametrize(
        ("errors", "said"),
        [
            ({}, ""),
            ({"ratio": 1.55}, ""),
            ({"ratio": 1.7}, "its error is 1.70 times rounding's own over all 64 samples"),
            ({"sequence": 2.0}, "its error is 2.00 times rounding's own in prompt 4"),
            ({"step": RATIO_OF_ONE - 0.1, "second": RATIO_OF_TWO - 0.1}, ""),
            ({"step": 7.0}, "its error is 7.00 times rounding's own at new token 9 of prompt 3"),
            ({"step": 4.0, "second": 3.5}, "4.00 times rounding's own at new token 9 of prompt 3, and 3.50 times at"),
            ({"first": 1.8}, "the error of the first arm, which it is held against, is 1.80 times rounding's"),
        ],
        ids=str,
    )
    def test_names_the_widest_place_where_the_error_is_more_than_rounding_and_chance(
        self, errors: dict[str, float], said: str
    ) -> None:
        judged = judge(figures_of(error=error_of(**errors)))
        assert ("MISMATCH" if said else "EQUAL_WITHIN_ROUNDING") == judged.verdict
        assert said in judged.detail

    def test_judges_no_single_step_where_an_engine_chose_its_experts(self) -> None:
        one_step = error_of(step=4 * RATIO_OF_ONE, second=4 * RATIO_OF_TWO)
        found = [
            judge(figures_of(error=error.model_copy(update={"free_experts": free})))
            for error in (one_step, error_of(ratio=3.0))
            for free in (False, True)
        ]
        assert ["MISMATCH", "EQUAL_WITHIN_ROUNDING", "MISMATCH", "MISMATCH"] == [each.verdict for each in found]
        assert "an engine cannot be told which experts to take" in found[1].detail

    def test_says_why_no_wider_model_was_there_to_hold_the_arms_against(self) -> None:
        """A reference that failed in a model of one's own was once left out in silence."""
        alone = error_of().model_copy(update={"reference": ""})
        judged = judge(figures_of(error=alone, without_reference="the weights in float64 do not fit beside the model"))
        assert "against the first arm, since the weights in float64 do not fit beside the model, over" in judged.detail

    def test_of_errors_allows_the_difference_that_they_go_with(self) -> None:
        judged = judge(
            figures_of(error=error_of(ratio=0.1, sequence=0.1, step=RATIO_OF_ONE / 2, second=0.1, first=0.1))
        )
        assert 2e-7 == pytest.approx(judged.allowed_rel)  # half of what is allowed made 1e-7

    def test_tells_which_order_of_summing_made_the_noise(self) -> None:
        ways = (
            NoiseWay(way="twice the rows", noise_rel=1e-7),
            NoiseWay(way="eager attention", noise_rel=None, skipped="no such kernel"),
            NoiseWay(way="sums from the other end", noise_rel=2e-7),
        )
        judged = judge(figures_of(noise_ways=ways))
        assert "rounding alone 2.0e-07 (the largest of 2 other orders of summing: sums from the other end)" in (
            judged.detail
        )
        assert [("twice the rows", 1e-7, ""), ("eager attention", None, "no such kernel")] == [
            (way.way, way.noise_rel, way.skipped) for way in judged.noise_ways[:2]
        ]

    def test_is_none_where_rounding_could_not_be_measured(self) -> None:
        ways = (NoiseWay(way="twice the rows", noise_rel=None, skipped="out of memory"),)
        judged = judge(figures_of(noise_abs=None, noise_rel=None, noise_ways=ways))
        assert judged.verdict is None
        assert "could not be measured (twice the rows: out of memory)" in judged.detail

    def test_of_free_runs_that_part_at_a_near_tie_is_rounding(self) -> None:
        parted = {"first_divergence": 5, "divergence_sequence": 2, "top2_margin": 1.5e-6, "unexplained_rel": 1e-7}
        judged = judge(figures_of(**parted))
        assert "EQUAL_WITHIN_ROUNDING" == judged.verdict
        assert (
            "free runs part at new token 5 of prompt 3 where the two best logits are 1.5e-06 apart: a near-tie"
            in judged.detail
        )

    def test_of_a_free_run_that_contradicts_the_common_path_is_a_mismatch(self) -> None:
        parted = figures_of(first_divergence=5, divergence_sequence=0, top2_margin=1.0, unexplained_rel=0.05)
        judged = judge(parted)
        assert "MISMATCH" == judged.verdict
        assert "its free run computes something else than its own run on the common path" in judged.detail
        assert "EQUAL_WITHIN_ROUNDING" == judge(replace(parted, penalised=True)).verdict

    def test_of_equal_logits_with_other_tokens_is_never_identical(self) -> None:
        """It was IDENTICAL with 30 of 32 tokens different, since every draw was excused."""
        equal = figures_of(max_abs_logit_diff=0.0, max_rel_logit_diff=0.0, kl=0.0)
        assert "IDENTICAL" == judge(equal).verdict
        greedy = replace(equal, first_divergence=3, divergence_sequence=0)
        assert "MISMATCH" == judge(replace(greedy, unexplained_rel=1e-3)).verdict
        assert "EQUAL_WITHIN_ROUNDING" == judge(replace(greedy, unexplained_rel=1e-8)).verdict  # a run done again
        drawn = replace(equal, first_divergence=3, divergence_sequence=0, sampled=True, drawn_apart=0.0)
        assert "MISMATCH" == judge(drawn).verdict

    @pytest.mark.parametrize(("chance", "verdict"), [(1e-6, "MISMATCH"), (1e-3, "EQUAL_WITHIN_ROUNDING")], ids=str)
    def test_excuses_a_draw_only_where_rounding_can_tip_one(self, chance: float, verdict: str) -> None:
        drawn = figures_of(first_divergence=3, divergence_sequence=0, sampled=True, drawn_apart=chance)
        assert verdict == judge(drawn).verdict

    def test_says_that_routing_flipped_and_where(self) -> None:
        routing = RoutingFigures(choices=100, flips=2, step=7, layer=3, sequence=1)
        assert (
            "at near-ties its routers chose other experts 2 of 100 times (first at new token 7 of prompt 2, layer 3),"
            " and were given the reference's"
        ) in judge(figures_of(routing=routing)).detail

    def test_in_the_record_keep_the_worst_and_every_flip_of_thousands(self) -> None:
        steps = [
            AgreementStep(
                step=index, max_abs_logit_diff=1e-7, max_rel_logit_diff=1e-8, kl=0.0, flips=0, top2_margin=1.0
            )
            for index in range(2000)
        ]
        steps[1001] = steps[1001].model_copy(update={"flips": 1})
        steps[1203] = steps[1203].model_copy(update={"max_abs_logit_diff": 1e-6})
        kept = [step.step for step in judge(figures_of(by_step=tuple(steps))).by_step]
        assert len(kept) < 410
        assert {0, 1001, 1203, 1999} <= set(kept)
        assert sorted(kept) == kept
