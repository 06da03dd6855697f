"""What makes two runs comparable."""

from __future__ import annotations

from kvbench.analysis.keys import make_keys
from kvbench.config.compose import load_config, sources
from kvbench.plan import make_plan

KEY_BEFORE = "ea5fcf6de400320e"  # of a default run, as records of earlier versions hold it


def compare_key(*overrides: str) -> str:
    return make_keys(make_plan(load_config(list(overrides), sources())), None).compare_key


def test_interruptions_and_habits_are_part_of_what_was_measured() -> None:
    keys = [
        compare_key("mode=interrupted"),
        compare_key("mode=interrupted", "interrupt.steps=[5]"),
        compare_key("mode=interrupted", "interrupt.message=Why?"),
        compare_key("arms=[{mode: nocache}]"),
        compare_key("arms=[{mode: nocache, habit: autograd}]"),
    ]
    assert len(set(keys)) == len(keys)


def test_the_default_steps_are_those_that_could_have_been_given() -> None:
    assert compare_key("mode=interrupted") == compare_key("mode=interrupted", "interrupt.steps=[16,32,48]")


def test_how_long_it_was_measured_is_not() -> None:
    assert compare_key() == compare_key("measure.blocks=20", "check.agreement=none")


def test_the_pieces_of_a_prefill_are_and_a_whole_one_has_the_key_it_had_before_there_were_any() -> None:
    assert KEY_BEFORE == compare_key()
    assert KEY_BEFORE != compare_key("workload.prefill_chunk=16")
