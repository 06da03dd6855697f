"""Sentences on records made by hand, with the figures that were measured on an H200."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pointers import unresolved_evidence
from report.records import SPEEDUP, arm, comparison, estimate, interrupted, one_arm, two_arms
from translations import left_in_english

from kvbench.analysis.diagnosis.pair import Pair
from kvbench.analysis.diagnosis.ranking import FINDINGS, diagnosis
from kvbench.records.run_record import RunRecord

CUDNN = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128"
SAME = SPEEDUP | {"value": 0.984, "ci_low": 0.975, "ci_high": 0.993}


def probe(attention: str, first_s: float, second_s: float, **changes: Any) -> dict[str, Any]:
    nothing = ("first_allocations", "second_allocations", "first_driver_bytes", "second_driver_bytes")
    times = {"first_ttft_s": 0.1, "second_ttft_s": 0.02, "first_itl_s": first_s, "second_itl_s": second_s}
    return {"attention": attention, "context_length": 200, "steps": 4, **times, **dict.fromkeys(nothing, 0), **changes}


def h200_arm(kind: str, itl_s: float, busy_s: float, joules: float, **cold: Any) -> dict[str, Any]:
    """Gemma-2B's shape at a context of 100 tokens."""
    computed_s = 5e9 / 7e14 * (1 if kind == "cached" else 100)
    probes = [probe("auto", 0.074, 0.0125), probe("flash", 0.0121, 0.012)]
    return arm(
        kind,
        itl_s=estimate(itl_s),
        cold={"ttft_s": 0.2, "itl_s": 0.074, "load_s": 2.0, "compile_s": None, "probes": probes, **cold},
        energy={"joules_per_token": joules, "idle_watts": 124.0, "window_s": 3.0},
        limit={
            "floor_s": 0.001136,
            "bound": "launch",
            "mbu": 0.001136 / itl_s,
            "mfu": computed_s / itl_s,
            "launch_s": itl_s - busy_s,
            "memory_s": 0.001136,
            "compute_s": computed_s,
            "weight_bytes": 5_012_000_000,
            "kv_bytes": 0 if kind == "nocache" else 1_900_000,
            "flops": round(computed_s * 7e14),
            "head_flops": 1_000_000_000,
            "device_busy_s": busy_s,
            "operations": 900.0,
            "kernels": [{"name": "nvjet_tst_128x8", "share": 0.4}, {"name": CUDNN, "share": 0.05}],
        },
    )


def h200(**changes: Any) -> RunRecord:
    arms = [h200_arm("nocache", 0.0123, 0.0022, 3.2), h200_arm("cached", 0.0125, 0.0019, 2.5)]
    pair = comparison(speedup=SAME, verdict="AMBIGUOUS")
    return two_arms(**{"prompt": 76, "arms": arms, "pair": pair, **changes})


def said(record: RunRecord) -> dict[str, str]:
    told = diagnosis(record, 0)
    pair = record.comparisons[0].model_copy(update={"diagnosis": told})
    data = record.model_copy(update={"comparisons": (pair,), "comparison": pair}).model_dump(mode="json")
    assert [] == unresolved_evidence(data)
    assert [] == left_in_english((f"diagnosis.{sentence.code}", sentence.text) for sentence in told)
    return {sentence.code: sentence.text for sentence in told}


class TestAnH200:
    def test_is_told_in_five_sentences_in_a_fixed_order(self) -> None:
        told = said(h200(pair=comparison(speedup=SAME, verdict="SAME")))
        assert ["launch", "first_visit", "reading", "cache_bytes", "energy"] == list(told)
        assert told["launch"].startswith(
            "Steps of both modes take 12.4 ms, and the device works 2.20 ms and 1.90 ms of them; the rest goes into"
            # Reading takes as long as computing 159 tokens; 5.6 times as many take 12.3 ms.
            " launching kernels, which below about 890 tokens of context hides what the cache saves."
        )
        assert told["first_visit"] == (
            "At a length not met before, 61.5 of the 74.0 ms that a step of either takes are cuDNN building a plan for"
            " it; a decode meets a new length at every step. attention=flash avoids it: 12.1 ms the first time."
        )
        assert told["reading"] == (
            "A step of cached reads 5.01 GB of weights and cache: at this machine's 4.41 TB/s that is 1.14 ms; it takes"
            " 12.5 ms (MBU 9.1 %)."
        )

    def test_takes_the_break_even_from_growth_where_that_was_measured(self) -> None:
        point = {"context_length": 1183.0, "ci_low": 1100.0, "ci_high": 1260.0, "level": 0.95, "detail": "…"}
        grown = {"shortest": 64.0, "longest": 2048.0, "points": [], "laws": [], "totals": [], "decodes": []}
        even = {"break_evens": [{"baseline_arm": 0, "candidate_arm": 1, **point}]}
        told = said(h200(growth=grown | even))
        assert "below about 1,200 tokens of context hides what the cache saves" in told["launch"]
        assert "break_even" not in told

    def test_saves_energy_where_it_saves_no_time(self) -> None:
        arms = [h200_arm("nocache", 0.0123, 0.0022, 10.4), h200_arm("cached", 0.0125, 0.0019, 2.8)]
        for each in arms:
            each["cold"]["probes"] = None
        told = said(h200(arms=arms, pair=comparison(speedup=SAME, verdict="SAME")))
        assert told["energy"] == (
            "The cache saves 73 % of the energy per token: 2.80 J/token instead of 10.4 J/token, idle power included."
        )


class TestACacheOfAModelSOwn:
    @pytest.mark.parametrize(("last", "words"), [(4000, "is allocated whole"), (4200, "holds")])
    def test_that_has_its_size_from_the_start_is_allocated_and_not_held(self, last: int, words: str) -> None:
        """A cache made for 1,000 tokens, of which 39 were used, was said to hold what it has room for."""
        arms = [h200_arm("nocache", 0.0123, 0.0022, 3.2), h200_arm("cached", 0.0125, 0.0019, 2.5)]
        arms[1]["cache"] = "own"
        arms[1]["memory_by_context"] = [
            {"context_length": length, "kv_cache_bytes": size, "allocated_bytes": None}
            for length, size in ((76, 4000), (124, last))
        ]
        assert f"The cache {words}" in said(h200(arms=arms))["cache_bytes"]


class TestAFirstVisit:
    def record(self, *probes: dict[str, Any]) -> RunRecord:
        arms = [h200_arm(kind, 0.0125, 0.002, 2.5, probes=list(probes)) for kind in ("nocache", "cached")]
        return h200(arms=arms)

    def test_says_of_an_arm_only_what_was_seen_of_it(self) -> None:
        own = probe("auto", 0.074, 0.0125)
        pays, avoids = probe("flash", 0.030, 0.011), probe("flash", 0.012, 0.012)
        arms = [
            h200_arm(kind, 0.0125, 0.002, 2.5, probes=[own, other])
            for kind, other in (("nocache", pays), ("cached", avoids))
        ]
        told = said(h200(arms=arms))["first_visit"]
        assert "that a step of cached takes are" in told
        assert "attention=flash avoids it" in told
        assert "nocache" not in told

    def test_advises_no_attention_that_pays_as_well(self) -> None:
        told = said(self.record(probe("auto", 0.074, 0.0125), probe("flash", 0.060, 0.012)))["first_visit"]
        assert "are paid for that length alone; a decode meets a new length at every step." in told
        assert "attention=" not in told

    def test_that_allocates_names_no_library(self) -> None:
        own = probe("auto", 0.074, 0.0125, first_allocations=12)
        told = said(self.record(own, probe("flash", 0.012, 0.012)))["first_visit"]
        assert "come with 12 allocations on the device" in told
        assert "cuDNN" not in told

    def test_that_allocates_once_does_not_put_it_down_to_that(self) -> None:
        own = probe("auto", 0.074, 0.0125, first_allocations=1)
        assert "allocations" not in said(self.record(own, probe("flash", 0.012, 0.012)))["first_visit"]


class TestAnAmbiguousInterval:
    def test_says_why_it_is_wide_and_how_many_blocks_would_settle_it(self) -> None:
        ratio = SPEEDUP | {"value": 0.93, "ci_low": 0.82, "ci_high": 0.93**2 / 0.82}
        told = said(two_arms(pair=comparison(speedup=ratio, verdict="AMBIGUOUS")))
        # Half-width 0.126 by t = 2.365 over 8 blocks: a deviation of 0.151; 0.0626 is to the band's edge, t = 2.064.
        assert told["ambiguous"] == (
            "The interval spans 0.820 to 1.055 because the ratio varies by 15 % from block to block; if the"
            " estimate stays where it is, about 25 blocks give a verdict (measure.blocks=25)."
        )

    def test_at_the_edge_of_the_band_is_not_promised_an_end(self) -> None:
        ratio = SPEEDUP | {"value": 1.0101, "ci_low": 0.95, "ci_high": 1.074}
        told = said(two_arms(pair=comparison(speedup=ratio, verdict="AMBIGUOUS")))
        assert "more blocks alone will hardly give a verdict" in told["ambiguous"]


class TestAnInvalidComparison:
    def invalid(self, check: str, **changes: Any) -> dict[str, str]:
        failed = {"name": check, "passed": False, "detail": "it failed", "advice": "mend it"}
        pair = comparison(verdict="INVALID", reasons=[f"{check}: it failed"], **changes.pop("pair", {}))
        return said(h200(status="invalid", checks=[failed], pair=pair, **changes))

    def test_of_an_unused_cache_says_so_and_nothing_else(self) -> None:
        proof = {"steps_checked": 864, "violations": 846, "first_violation": "pass 1", "resubmitted_steps": 47}
        arms = [arm("nocache"), arm("cached", proof=proof)]
        told = self.invalid("mode_proof", arms=arms)
        assert {
            "unused_cache": "The cached loop submitted all tokens again at every step: its cache is not used."
        } == told

    def test_of_another_broken_promise_gives_the_first_pass(self) -> None:
        proof = {"steps_checked": 864, "violations": 3, "first_violation": "pass 2: submitted 1, past 6 -> 6"}
        told = self.invalid("mode_proof", arms=[arm("nocache"), arm("cached", proof=proof)])
        assert {
            "broken_promise": "3 of 864 passes of cached submitted something else than the mode promises (first, pass"
            " 2: submitted 1, past 6 -> 6): its times are of another computation."
        } == told

    def test_of_another_output_gives_the_difference_and_what_rounding_explains(self) -> None:
        agreement = comparison()["agreement"] | {"verdict": "MISMATCH", "max_rel_logit_diff": 0.31, "allowed_rel": 5e-6}
        told = self.invalid("agreement", pair={"agreement": agreement})
        assert {
            "other_output": "cached does not compute what nocache computes: their logits are 3.1e-01 apart, relative to"
            " the largest, and rounding explains 5.0e-06, so its speed buys another output."
        } == told

    def test_of_any_other_check_repeats_its_advice(self) -> None:
        assert {"check_audit": "It failed: mend it."} == self.invalid("audit")

    def test_of_a_run_that_did_not_end_has_no_sentence(self) -> None:
        assert {} == said(interrupted())


def test_a_naive_loop_is_charged_a_predicted_share_where_no_plain_one_was_measured() -> None:
    naive = h200_arm("nocache", 0.0159, 0.015, 9.0, probes=None) | {"mode": "nocache_naive"}
    naive["limit"] |= {"bound": "compute", "flops": 800, "head_flops": 304}
    told = said(h200(arms=[naive, h200_arm("cached", 0.0125, 0.0019, 2.5, probes=None)]))
    assert told["all_logits"] == (
        "The nocache_naive loop computes logits for every position and builds a cache that it drops: a predicted 38 %"
        " of its arithmetic is for logits that nobody reads."
    )


def test_random_weights_are_a_caveat() -> None:
    told = said(two_arms(model={"name": "gemma2b", "source": "random"}))
    assert "would hardly notice a broken cache" in told["random_weights"]


def test_a_record_without_figures_has_nothing_to_say() -> None:
    assert {} == said(two_arms(arms=[arm("nocache"), arm("nocache")]))
    assert () == one_arm().comparisons


class TestCiting:
    def test_makes_evidence_of_whatever_is_told_computed_with_or_rested_on_in_that_order(self) -> None:
        cite = Pair(h200(), 0).citing()
        text = f"{cite('/arms/1/itl_s/value', 's')}, {cite.value('/arms/1/limit/operations') / 3:g}"
        cite.rest_on("/arms/0/engine")
        sentence = cite.sentence("told", text)
        assert "12.5 ms, 300" == sentence.text
        assert ("/arms/1/itl_s/value", "/arms/1/limit/operations", "/arms/0/engine") == sentence.evidence

    def test_takes_no_pointer_that_leads_nowhere(self) -> None:
        cite = Pair(h200(), 0).citing()
        for pointer in ("/arms/7/itl_s", "/arms/0/speed", "/model/nothing"):
            with pytest.raises((IndexError, AttributeError, KeyError)):
                cite.rest_on(pointer)


def test_every_kind_of_sentence_comes_from_one_finding() -> None:
    assert len(FINDINGS) == len(set(FINDINGS))
    record = json.loads(h200().model_dump_json())
    assert "diagnosis" in record["comparison"]


@pytest.mark.parametrize("verdict", ["FASTER", "SLOWER", "SAME", "AMBIGUOUS"])
def test_a_cache_that_wins_is_not_said_to_be_hidden_by_launches(verdict: str) -> None:
    told = said(h200(pair=comparison(verdict=verdict)))
    assert (verdict != "FASTER") == ("hides what the cache saves" in told["launch"])


class TestARemedyForLaunches:
    def told(self, device: str, *arms: dict[str, Any], environment: dict[str, Any] | None = None, **config: Any) -> str:
        base = h200(arms=list(arms) or [h200_arm(kind, 0.0125, 0.002, 2.5) for kind in ("nocache", "cached")])
        found = {**base.environment, "device": device, **(environment or {})}
        changed = {"environment": found, "config": {**base.config, **config}}
        return said(base.model_copy(update=changed))["launch"].rpartition(". ")[2]

    def test_is_keys_that_make_every_arm_of_the_run_faster(self) -> None:
        assert "Try engine=compiled cache=static." == self.told("cuda:0")

    def test_is_an_arm_where_the_run_lists_its_arms(self) -> None:
        assert (
            "Try the arms {mode: nocache, engine: compiled} and {mode: cached, engine: compiled, cache: static}."
        ) == self.told("cuda:0", arms=[{"mode": "nocache"}, {"mode": "cached"}])

    def test_names_an_arm_once(self) -> None:
        arms = [h200_arm("cached", 0.0125, 0.002, 2.5) | {"cache": kind} for kind in ("dynamic", "static")]
        told = self.told("cuda:0", *arms, arms=[{"mode": "cached"}, {"mode": "cached", "cache": "static"}])
        assert "Try the arm {mode: cached, engine: compiled, cache: static}." == told

    def test_is_none_of_a_model_of_ones_own_though_the_arm_that_waits_keeps_no_cache(self) -> None:
        arms = [h200_arm("nocache", 0.0125, 0.002, 2.5), h200_arm("cached", 0.0023, 0.002, 2.5) | {"cache": "own"}]
        arms[1]["limit"] = {**arms[1]["limit"], "bound": "memory"}
        told = self.told("cuda:0", *arms, arms=[{"mode": "nocache"}, {"mode": "cached"}])
        assert told.endswith("a compiled or captured step, or a larger batch.")

    def test_does_not_take_away_the_cache_that_is_tried(self) -> None:
        arms = [h200_arm("nocache", 0.0125, 0.002, 2.5), h200_arm("cached", 0.0125, 0.002, 2.5) | {"cache": "fp8"}]
        assert self.told("cuda:0", *arms).endswith("a compiled or captured step, or a larger batch.")

    @pytest.mark.parametrize(("device", "engine"), [("cpu", None), ("cuda:0", "graph")])
    def test_is_no_engine_that_finds_no_compiler(self, device: str, engine: str | None) -> None:
        told = self.told(device, environment={"compiler": None})
        assert told.startswith(f"Try engine={engine} " if engine else "Fewer or larger")

    @pytest.mark.parametrize("device", ["mps", ""])
    def test_is_no_engine_that_the_device_cannot_run(self, device: str) -> None:
        assert self.told(device).endswith("a compiled or captured step, or a larger batch.")

    def test_is_no_engine_that_an_arm_cannot_take(self) -> None:
        arms = [h200_arm("nocache", 0.0125, 0.002, 2.5), h200_arm("interrupted", 0.0125, 0.002, 2.5)]
        arms[1]["cache"] = "dynamic"
        assert self.told("cuda:0", *arms).endswith("a compiled or captured step, or a larger batch.")

    def test_is_the_figure_of_an_engine_that_the_run_has_tried(self) -> None:
        tried = h200_arm("cached", 0.0023, 0.002, 2.5) | {"engine": "compiled", "cache": "static"}
        arms = [h200_arm("nocache", 0.0125, 0.002, 2.5), h200_arm("cached", 0.0125, 0.002, 2.5), tried]
        assert "In this run cached with engine=compiled takes 2.30 ms a step." == self.told("cuda:0", *arms)

    def test_is_the_next_engine_where_a_compiled_step_still_waits(self) -> None:
        arms = [h200_arm(kind, 0.0125, 0.002, 2.5) | {"engine": "compiled"} for kind in ("nocache", "cached")]
        arms[1]["cache"] = "static"
        assert "Try engine=graph cache=static." == self.told("cuda:0", *arms)
