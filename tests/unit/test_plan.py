"""A plan holds what a configuration resolves to."""

from __future__ import annotations

import pytest

from kvbench.arm import Arm
from kvbench.config.compose import load_config, sources
from kvbench.errors import PromptError
from kvbench.plan import Plan, make_plan


def plan(*overrides: str) -> Plan:
    return make_plan(load_config(list(overrides), sources()))


class TestArms:
    def test_both_is_recompute_first_then_cached(self) -> None:
        expected = (Arm("nocache", "none", "eager", "auto"), Arm("cached", "dynamic", "eager", "auto"))
        assert expected == plan().arms

    def test_a_single_mode_is_a_single_arm(self) -> None:
        assert (Arm("generate_nocache", "none", "eager", "math"),) == plan(
            "mode=generate_nocache", "attention=math"
        ).arms

    def test_can_be_listed_each_with_parts_of_its_own(self) -> None:
        arms = plan("arms=[{mode: generate},{mode: cached, attention: sdpa}]").arms
        assert (Arm("generate", "dynamic", "eager", "auto"), Arm("cached", "dynamic", "eager", "sdpa")) == arms


@pytest.mark.parametrize(("overrides", "prompts"), [((), 4), (("workload.prompt=one",), 1)])
def test_a_batch_of_more_sequences_than_there_are_prompts_is_refused(overrides: tuple[str, ...], prompts: int) -> None:
    """It ran with as many as there were, and every table called it the larger one."""
    assert plan(*overrides, f"workload.batch_size={prompts}").prompts.texts
    with pytest.raises(PromptError, match=f"workload.batch_size={prompts + 1}: the run has {prompts} prompt"):
        plan(*overrides, f"workload.batch_size={prompts + 1}")
    assert plan("workload.prompt_tokens=8", "workload.batch_size=64").prompts.lengths


class TestVisitingOrder:
    def test_visits_every_arm_once_in_every_block(self) -> None:
        decided = plan("experiment=all_modes")
        orders = [decided.visiting_order(block) for block in range(50)]
        assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)

    def test_varies_between_blocks_and_repeats_with_the_seed(self) -> None:
        first, again, other = (
            [decided.visiting_order(block) for block in range(20)]
            for decided in (plan(), plan(), plan("measure.seed=1"))
        )
        assert first == again
        assert {(0, 1), (1, 0)} == set(first)
        assert first != other


class TestNames:
    def test_come_from_the_model_file_the_hub_id_or_the_folder(self) -> None:
        assert plan().name == "embedded"
        assert plan("model=hub", "model.id=Qwen/Qwen3-0.6B").name == "Qwen--Qwen3-0.6B"
        assert plan("model=path", "model.path=/models/mine").name == "mine"

    def test_of_the_folder_may_be_given_and_leave_the_models_name_alone(self) -> None:
        named = plan("name=tuesday")
        assert (named.name, named.model_name) == ("tuesday", "embedded")


class TestPrompts:
    def test_of_a_length_are_as_many_as_the_batch(self) -> None:
        prompts = plan("workload.prompt_tokens=40", "workload.batch_size=3").prompts
        assert (prompts.lengths, prompts.copies) == ((40,), 3)

    def test_are_the_bundled_ones_otherwise(self) -> None:
        assert len(plan().prompts.texts) > 1


class TestInterruptions:
    def test_come_after_each_quarter_of_the_new_tokens_unless_they_are_given(self) -> None:
        assert plan("mode=interrupted").interrupt_steps == (16, 32, 48)
        assert plan("mode=interrupted", "workload.new_tokens=2").interrupt_steps == (1,)
        assert plan("mode=interrupted", "interrupt.steps=[9,3,9]").interrupt_steps == (3, 9)

    def test_are_none_where_no_arm_is_about_them(self) -> None:
        assert plan().interrupt_steps == ()

    def test_bring_the_arms_that_answer_the_question(self) -> None:
        assert [arm.mode for arm in plan("mode=interrupted").arms] == ["nocache", "cached", "interrupted"]
        assert [arm.mode for arm in plan("mode=resumed").arms] == ["interrupted", "resumed"]
