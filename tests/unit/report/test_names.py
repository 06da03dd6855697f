"""What arms and runs are called, and how arms look, whatever stands beside them."""

import pytest

from kvbench.arm import arm_names
from kvbench.report.charts.figures import COLOURS, looks
from kvbench.report.names import prompt_series, run_aspects, run_labels

from .records import arm, failed, one_arm, two_arms


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "cached (dynamic)"),
        ({"cache": "static", "engine": "compiled", "attention": "flash"}, "cached (static, compiled, flash)"),
        ({"mode": "generate_nocache", "cache": "none"}, "generate_nocache"),
        ({"cache": "none", "attention": "math"}, "cached (math)"),
    ],
)
def test_a_name_holds_the_mode_and_what_is_unusual(changes, name):
    assert arm_names(one_arm(arms=[arm("cached", **changes)]).arms) == (name,)


def test_equal_arms_are_told_apart_by_number():
    record = two_arms(arms=[arm("cached"), arm("cached")])
    assert arm_names(record.arms) == ("cached (dynamic) #1", "cached (dynamic) #2")


def test_run_labels_hold_what_varies_and_are_unique():
    runs = [two_arms(prompt=128), two_arms(prompt=1024), one_arm(prompt=128), two_arms(prompt=128)]
    assert run_labels([run_aspects(run) for run in runs]) == (
        "prompt 128 · nocache, cached (dynamic) · run 1",
        "prompt 1,024",
        "prompt 128 · cached (dynamic)",
        "prompt 128 · nocache, cached (dynamic) · run 4",
    )
    assert len(set(run_labels([run_aspects(failed())] * 2))) == 2


def test_runs_that_differ_in_their_prompts_only_form_one_series():
    assert prompt_series([run_aspects(two_arms(prompt=128)), run_aspects(two_arms(prompt=1024))]) == ("", "")


def test_a_mode_keeps_its_look_whatever_stands_beside_it():
    alone = looks(["cached (dynamic)"])["cached (dynamic)"]
    beside = looks(["nocache", "cached (dynamic)", "cached (static)"])
    assert beside["cached (dynamic)"] == alone
    assert beside["cached (static)"] != alone


def test_more_arms_than_colours_still_get_a_look():
    assert len(looks(f"mode{number}" for number in range(len(COLOURS) + 3))) == len(COLOURS) + 3
