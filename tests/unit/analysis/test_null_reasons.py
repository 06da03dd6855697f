"""Every null has its sentence, at its own place in the record."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from report.chart_records import under_a_roof
from report.records import comparison, one_arm, two_arms

from kvbench.records.arm_figures import Energy
from kvbench.records.part import Estimate, Part, null_reasons
from kvbench.records.run_record import RunRecord

UNKNOWN = Energy(joules_per_token=None, idle_watts=None, window_s=None)


def without(record: RunRecord, *pointers: str) -> dict[str, str]:
    """The reasons of a record in which these are null."""
    data = json.loads(record.model_dump_json())
    for pointer in pointers:
        *way, last = pointer.strip("/").split("/")
        place: Any = data
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        place[last] = None
    return null_reasons(RunRecord.model_validate_json(json.dumps(data)), ("config", "null_reasons"))


class TestAReason:
    def test_stands_at_the_json_pointer_of_its_null(self) -> None:
        reasons = without(two_arms(), "/arms/0/cold/ttft_s", "/arms/1/itl_s/ci_low")
        assert {"/arms/0/cold/ttft_s", "/arms/1/itl_s/ci_low"} <= set(reasons)
        assert "/arms/0/itl_s/ci_low" not in reasons

    def test_escapes_what_a_pointer_reserves(self) -> None:
        assert "/environment/a~1b~0c" in without(two_arms(environment={"a/b~c": None}))

    def test_of_who_made_the_part_wins(self) -> None:
        record = two_arms().because({"model/layers": "the folder does not say"})
        record = record.model_copy(update={"model": {"parameters": None, "layers": None}})
        reasons = null_reasons(record)
        assert "the folder does not say" == reasons["/model/layers"]
        assert "not stated by the model's configuration" == reasons["/model/parameters"]

    def test_is_not_given_for_what_is_known(self) -> None:
        known = Energy(joules_per_token=0.0, idle_watts=0.0, window_s=0.0, new_tokens=0).because(
            {"window_s": "unknown"}
        )
        assert {} == null_reasons(known)

    def test_is_not_given_inside_the_configuration(self) -> None:
        assert not [at for at in without(two_arms(config={"name": None})) if at.startswith("/config")]

    def test_of_a_long_series_stands_once_at_the_series(self) -> None:
        reasons = without(two_arms())
        assert {"/memory_timeline", "/arms/0/memory_by_context"} <= set(reasons)
        assert not [at for at in reasons if at.startswith("/memory_timeline/")]

    def test_of_a_figure_that_is_null_is_that_of_its_interval_too(self) -> None:
        nothing = Estimate(estimator="median", value=None, n=2)
        assert {"no block has this figure"} == set(null_reasons(nothing).values())

    def test_that_nobody_wrote_is_seen_at_once(self) -> None:
        class Surprise(Part):
            surprise: int | None

        assert {"/surprise": "not known"} == null_reasons(Surprise(surprise=None))

    def test_travels_with_its_part_and_is_no_part_of_the_record(self) -> None:
        told = UNKNOWN.because({"window_s": "no counter"})
        assert "no counter" == pickle.loads(pickle.dumps(told)).why_null("window_s")
        assert (told, UNKNOWN.model_dump_json()) == (UNKNOWN, told.model_dump_json())


AGREEMENT = comparison()["agreement"]
STEP: dict[str, Any] = {"step": 0, "max_abs_logit_diff": 0.0, "max_rel_logit_diff": 0.0, "kl": None, "flips": 0}
WAY = {"way": "twice the rows", "noise_rel": None, "skipped": "no memory"}
REFERENCE: dict[str, Any] = {"arm": 0, "dtype": "float64", "steps": 1, "max_abs_logit_diff": 0.0, "argmax_flips": 0}
RULED: dict[str, tuple[RunRecord, Sequence[str]]] = {
    "/environment/cuda": (two_arms(), ()),
    "/environment/git_commit": (two_arms(), ("/environment/git_commit",)),
    "/arms/0/itl_s/ci_low": (two_arms(), ("/arms/0/itl_s/ci_low",)),
    "/arms/0/itl_percentiles_s/p99": (two_arms(), ()),
    "/arms/0/energy/idle_watts": (two_arms(), ()),
    "/arms/0/limit/mbu": (under_a_roof(), ("/arms/0/limit/mbu",)),
    "/comparison/break_even_context": (two_arms(), ()),
    "/comparison/agreement/kl": (two_arms(), ("/comparison/agreement/kl",)),
    "/comparison/agreement/divergence_sequence": (two_arms(), ()),
    "/comparison/agreement/by_step": (
        two_arms(pair=comparison(agreement=AGREEMENT | {"by_step": [STEP | {"top2_margin": 1.0}]})),
        (),
    ),
    "/comparison/agreement/noise_ways/0/noise_rel": (
        two_arms(pair=comparison(agreement=AGREEMENT | {"noise_ways": [WAY]})),
        (),
    ),
    "/references/0/kl": (one_arm(references=[REFERENCE | {"max_rel_logit_diff": 0.0, "kl": None}]), ()),
    "/comparison/speedup/ci_low": (two_arms(), ("/comparison/speedup/ci_low",)),
}


@pytest.mark.parametrize("pointer", RULED)
def test_each_rule_is_a_sentence_of_its_own(pointer: str) -> None:
    sentences = {each: without(record, *nulls)[each] for each, (record, nulls) in RULED.items()}
    assert "not known" != sentences[pointer]
    assert sentences[pointer] not in [sentence for other, sentence in sentences.items() if other != pointer]
