"""Every null has its sentence, at its own place in the record."""

from __future__ import annotations

from typing import Any

import pytest

from kvbench.analysis.null_reasons import null_reasons


class TestAReason:
    def test_stands_at_the_json_pointer_of_its_null(self) -> None:
        record = {"arms": [{"cold": {"compile_s": None, "ttft_s": 1.0}}, {"cold": {"compile_s": None}}]}
        assert {"/arms/0/cold/compile_s", "/arms/1/cold/compile_s"} == set(null_reasons(record, {}))

    def test_escapes_what_a_pointer_reserves(self) -> None:
        reasons = null_reasons({"environment": {"a/b~c": None}}, {})
        assert ["/environment/a~1b~0c"] == list(reasons)

    def test_that_came_with_the_samples_wins(self) -> None:
        known = {"/model/parameters": "the folder does not say"}
        reasons = null_reasons({"model": {"parameters": None, "layers": None}}, known)
        assert "the folder does not say" == reasons["/model/parameters"]
        assert "the folder does not say" != reasons["/model/layers"]

    def test_is_not_given_for_what_is_known(self) -> None:
        assert {} == null_reasons({"model": {"layers": 0, "name": "", "tied": False}, "arms": []}, {})

    def test_is_not_given_inside_the_configuration(self) -> None:
        assert {} == null_reasons({"config": {"name": None}, "null_reasons": {}}, {})

    def test_of_a_long_series_stands_once_at_the_series(self) -> None:
        point = {"elapsed_s": 0.0, "device_used_bytes": None}
        record = {"memory_timeline": [point] * 500, "arms": [{"memory_by_context": [{"allocated_bytes": None}] * 500}]}
        reasons = null_reasons(record, {})
        assert {"/memory_timeline", "/arms/0/memory_by_context"} == set(reasons)

    def test_that_nobody_wrote_is_seen_at_once(self) -> None:
        assert {"/arms/0/surprise": "not known"} == null_reasons({"arms": [{"surprise": None}]}, {})


RULED: dict[str, dict[str, Any]] = {
    "/environment/cuda": {"environment": {"cuda": None}},
    "/environment/git_commit": {"environment": {"git_commit": None}},
    "/arms/0/itl_s/ci_low": {"arms": [{"itl_s": {"ci_low": None}}]},
    "/arms/0/itl_percentiles_s/p99": {"arms": [{"itl_percentiles_s": {"p99": None}}]},
    "/arms/0/energy/idle_watts": {"arms": [{"energy": {"idle_watts": None}}]},
    "/arms/0/limit/mbu": {"arms": [{"limit": {"mbu": None}}]},
    "/comparison/break_even_context": {"comparison": {"break_even_context": None}},
    "/comparisons/1/agreement/kl": {"comparisons": [{}, {"agreement": {"kl": None}}]},
    "/comparisons/1/agreement/divergence_sequence": {"comparisons": [{}, {"agreement": {"divergence_sequence": None}}]},
    "/comparison/agreement/by_step": {"comparison": {"agreement": {"by_step": [{"kl": None}]}}},
    "/comparison/agreement/noise_ways/0/noise_rel": {
        "comparison": {"agreement": {"noise_ways": [{"noise_rel": None}]}}
    },
    "/references/1/kl": {"references": [{}, {"kl": None}]},
    "/comparisons/0/speedup/ci_low": {"comparisons": [{"speedup": {"ci_low": None}}]},
}


@pytest.mark.parametrize("pointer", RULED)
def test_each_rule_is_a_sentence_of_its_own(pointer: str) -> None:
    reasons = null_reasons(RULED[pointer], {})
    assert [pointer] == list(reasons)
    assert "not known" != reasons[pointer]
    others = {reason for other in RULED if other != pointer for reason in null_reasons(RULED[other], {}).values()}
    assert reasons[pointer] not in others
