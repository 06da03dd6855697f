"""What makes two runs comparable."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kvbench.analysis import keys
from kvbench.analysis.keys import make_keys, resume_key
from kvbench.analysis.regression import kind_of
from kvbench.config.compose import load_config, sources
from kvbench.plan import make_plan
from kvbench.records.run_record import Keys

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


def kinds(model: dict[str, Any], environment: dict[str, Any], *overrides: str) -> Keys:
    """Keys of a run that is prepared, with these facts of its model and of its machine."""
    plan = make_plan(load_config(list(overrides), sources()))
    prepared = SimpleNamespace(model={"dtype": "float32", **model}, environment={"device_name": "one", **environment})
    return make_keys(plan, prepared)  # type: ignore[arg-type]


HUB = ("model=hub", "model.id=org/name")
SPREAD = (*HUB, "model.device_map=auto")


def test_the_commit_of_the_hub_s_model_is() -> None:
    one, other = (kinds({"revision": letter * 40}, {}, *HUB) for letter in "ab")
    assert one.compare_key != other.compare_key
    assert one.resume_key != other.resume_key
    assert one == kinds({"revision": "a" * 40}, {}, *HUB)


def test_the_language_in_which_it_is_told_is_not() -> None:
    assert kinds({}, {}) == kinds({}, {}, "language=zh-CN")


def test_the_devices_that_a_model_is_spread_over_are_and_those_beside_a_model_on_one_are_not() -> None:
    two, four = ({"device_names": ["one"] * count} for count in (2, 4))
    assert kinds({}, two, *SPREAD).compare_key != kinds({}, four, *SPREAD).compare_key
    assert kinds({}, two, *SPREAD).resume_key != kinds({}, four, *SPREAD).resume_key
    assert kinds({}, two, *SPREAD).compare_key != kinds({}, two, *HUB).compare_key
    assert kinds({}, two, *HUB) == kinds({}, four, *HUB)


def test_a_point_of_the_hub_s_model_is_found_again_by_the_commit_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = kinds({"revision": "a" * 40}, {}, *HUB).resume_key
    plan = make_plan(load_config(list(HUB), sources()))
    for commit, again in (("a" * 40, True), ("b" * 40, False), (None, False)):
        monkeypatch.setattr(keys, "cached_commit", lambda *asked, commit=commit: commit)
        assert again == (measured == resume_key(plan, {"device_name": "one"}))


def test_records_from_before_the_key_held_a_commit_meet_those_of_today() -> None:
    def record(key: str, revision: str | None) -> Any:
        return SimpleNamespace(keys=SimpleNamespace(compare_key=key), model={"revision": revision})

    old, new, other = record("k", "a"), record("k@a", "a"), record("k@b", "b")
    assert ["k@a", "k@a", "k@b", "k"] == [kind_of(run) for run in (old, new, other, record("k", None))]
    assert ["k", "k", "k"] == [kind_of(run, any_revision=True) for run in (old, new, other)]
