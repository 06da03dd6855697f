"""How far an arm is from its machine: exact figures of a scripted model on a machine with round ceilings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from runs import scripted_samples

from kvbench.analysis.limits import limit
from kvbench.model_costs import facts_from_mapping, pass_cost
from kvbench.plan import Plan
from kvbench.records.arm_figures import Limit
from kvbench.records.ceilings import Ceilings, MatrixRate, ReadRate
from kvbench.records.evidence import LengthProbe
from kvbench.records.samples import RunSamples
from kvbench.records.timings import ColdEvidence
from kvbench.records.untimed import CountedFlops

PARAMETERS = 10**6  # 2 bytes each, all in matrices
CEILINGS = Ceilings(
    fingerprint="x",
    measured_at="2026-11-25T08:00:00+00:00",
    device_name="scripted",
    read=(ReadRate(set_bytes=2**20, bytes_per_s=1e9),),
    matrix=(MatrixRate(dtype="float16", rows=1, width=8, flops_per_s=1e12),),
    launch_s=1e-6,
)


def measured(*overrides: str) -> tuple[Plan, RunSamples]:
    size = (f"model.parameters={PARAMETERS}", "workload.prompt_tokens=100", "workload.new_tokens=6")
    return scripted_samples(*size, "measure.step_lane=false", *overrides)


def limits(*overrides: str, ceilings: Ceilings | None = CEILINGS) -> tuple[Limit, Limit]:
    plan, samples = measured(*overrides)
    return limit(plan, samples, 0, ceilings), limit(plan, samples, 1, ceilings)


class TestTheFloor:
    def test_of_a_cached_step_is_reading_its_weights_and_its_cache(self) -> None:
        _, cached = limits("model.cached_step_s=0.004")
        read = 2 * PARAMETERS + 4 * 103  # 4 bytes of cache a token, steps at 101 to 105 tokens
        assert (2 * PARAMETERS, 4 * 103) == (cached.weight_bytes, cached.kv_bytes)
        assert read / 1e9 == pytest.approx(cached.floor_s)
        assert cached.memory_s == cached.floor_s
        assert read / 1e9 / 0.004 == pytest.approx(cached.mbu)
        assert "memory" == cached.bound

    def test_of_a_chunked_prefill_reads_the_weights_and_the_past_with_every_piece(self) -> None:
        nocache, cached = limits("workload.prefill_chunk=30")
        assert 2 * PARAMETERS == nocache.prefill_bytes
        assert 4 * 2 * PARAMETERS + 4 * (60 + 90 + 100) == cached.prefill_bytes
        assert nocache.prefill_flops == cached.prefill_flops

    def test_of_a_batch_is_that_of_each_row_at_its_own_length(self, tmp_path: Path) -> None:
        """What fills up the shorter prompt of a batch was once counted as needed, nearly twice the arithmetic here."""
        prompts = tmp_path / "p.txt"
        prompts.write_text("abc\n" + "x" * 300 + "\n")
        keys = ("workload.prompt_tokens=null", f"workload.prompts={prompts}")
        alone, together = limits(*keys), limits(*keys, "workload.batch_size=2")
        for one, two in zip(alone, together, strict=True):
            assert one.weight_bytes == two.weight_bytes
            # Of one row at a time it is the mean over both, rounded.
            assert 2 * (one.kv_bytes or 0) == pytest.approx(two.kv_bytes, abs=2)
            assert 2 * (one.flops or 0) == pytest.approx(two.flops, abs=2)
            assert 2 * (one.prefill_flops or 0) == pytest.approx(two.prefill_flops, abs=2)

    def test_of_a_recompute_step_is_computing_all_its_tokens(self) -> None:
        ceilings = CEILINGS.model_copy(
            update={"matrix": (MatrixRate(dtype="float16", rows=1, width=8, flops_per_s=1e10),)}
        )
        nocache, _ = limits("model.nocache_step_s=0.05", ceilings=ceilings)
        # 2 FLOPs a weight and token; 4 a visible pair of one head of width 1, as many as 1 + 2 + … + L
        pairs = sum(length * (length + 1) // 2 for length in range(101, 106)) / 5
        flops = 2 * PARAMETERS * 103 + 4 * pairs
        assert flops == nocache.flops
        assert flops / 1e10 == pytest.approx(nocache.floor_s)
        assert flops / 1e10 / 0.05 == pytest.approx(nocache.mfu)
        assert "compute" == nocache.bound

    @pytest.mark.parametrize("new_tokens", [2, 3, 4, 33, 34, 100])
    def test_is_the_mean_over_the_steps_whether_these_are_even_or_odd(self, new_tokens: int) -> None:
        """Simpson's rule over lengths rounded to whole tokens put three new tokens' steps a third of a token short."""
        _, cached = limits(f"workload.new_tokens={new_tokens}", "measure.blocks=5")
        mean = sum(range(101, 100 + new_tokens)) / (new_tokens - 1)
        assert 4 * mean == pytest.approx(cached.kv_bytes, abs=0.5)


class TestLaunchTime:
    def test_is_what_a_step_takes_beyond_computing(self) -> None:
        nocache, cached = limits("model.launch_s=0.02", "model.nocache_step_s=0.015", "model.cached_step_s=0.002")
        assert (0.005, 0.018) == pytest.approx((nocache.launch_s, cached.launch_s))
        assert "launch" == cached.bound
        assert nocache.bound != "launch"

    def test_is_none_where_a_step_computes_all_the_time_at_every_length(self) -> None:
        """Work read at the shortest length alone once made a recompute step launch-bound that never waited."""
        nocache, _ = limits(
            "workload.prompt_tokens=null", "scaling.lengths=[10,100,1000,5000]", "model.nocache_per_token_s=1e-5"
        )
        assert 0.0 == pytest.approx(nocache.launch_s, abs=1e-9)
        assert nocache.bound != "launch"

    def test_is_told_without_ceilings_and_the_rest_says_how_to_get_it(self) -> None:
        plan, samples = measured("model.launch_s=0.02")
        found = limit(plan, samples, 1, None)
        assert ("launch", None, None) == (found.bound, found.floor_s, found.mbu)
        assert "the ceilings of this machine are not measured: python -m kvbench doctor --ceilings" in found.why_null(
            "mbu"
        )


class TestWhatIsNotKnown:
    @pytest.mark.parametrize(
        ("counted", "said"), [(1.04, None), (1.06, "saw more"), (0.97, None), (0.94, "saw less"), (0.3, "saw less")]
    )
    def test_is_what_the_run_s_own_count_refutes(self, counted: float, said: str | None) -> None:
        """Layers that run twice were given a floor of half their work, and vision parts one of three times a step's."""
        plan, samples = measured()
        cost = pass_cost(facts_from_mapping(samples.prepared.model if samples.prepared else {}), 1, 100)
        assert cost is not None
        samples = replace(samples, counted_flops=CountedFlops(1, 100, int(counted * cost.square_flops)))
        found = limit(plan, samples, 1, CEILINGS)
        known = said is None
        assert known == (found.floor_s is not None) == (found.mbu is not None) == (found.flops is not None)
        assert known or f"torch's counter {said}" in found.why_null("floor_s")

    def test_the_count_of_a_model_that_computes_all_logits_is_held_against_all_of_them(self) -> None:
        """Whisper, TrOCR and ProphetNet lost their limits to a head that was predicted for one position."""
        plan, samples = measured()
        assert samples.prepared is not None
        every = {**samples.prepared.model, "computes_all_logits": True}
        every["weight_parts"] = {**every["weight_parts"], "head": {"parameters": 10**9, "bytes": 2 * 10**9}}
        cost = pass_cost(facts_from_mapping(every), 1, 100, logits=100)
        assert cost is not None
        counted = CountedFlops(1, 100, cost.square_flops)
        samples = replace(samples, prepared=replace(samples.prepared, model=every), counted_flops=counted)
        assert limit(plan, samples, 1, CEILINGS).floor_s is not None

    def test_weights_that_a_pass_never_came_to_are_not_in_what_a_step_reads(self) -> None:
        plan, samples = measured()
        assert samples.prepared is not None
        parts = samples.prepared.model["weight_parts"]
        seen = {
            **parts,
            "linear": {name: value // 4 for name, value in parts["linear"].items()},
            "unread": {name: value - value // 4 for name, value in parts["linear"].items()},
        }
        whole = limit(plan, samples, 1, CEILINGS)
        seen_only = limit(plan, replace(samples, counted_flops=CountedFlops(1, 100, None, "", seen)), 1, CEILINGS)
        assert seen_only.weight_bytes == whole.weight_bytes // 4

    def test_where_only_bytes_are_known_reading_has_a_time_and_computing_a_reason(self) -> None:
        plan, samples = measured()
        assert samples.prepared is not None
        layer = {"layers": 1, "kind": "linear_attention", "state_bytes": 64, "pair_products": None}
        model = {**samples.prepared.model, "cache_layers": [layer], "fixed_cache_bytes": 64, "kv_bytes_per_token": 0}
        samples = replace(samples, prepared=replace(samples.prepared, model=model))
        found = limit(plan, samples, 1, CEILINGS)
        assert found.memory_s is not None
        assert found.mbu is not None
        assert (None, None, None, None) == (found.flops, found.mfu, found.floor_s, found.bound)
        for name in ("flops", "mfu", "floor_s", "bound"):
            assert "linear_attention" in found.why_null(name)

    def test_a_type_without_a_rate_has_a_memory_time_and_no_floor(self) -> None:
        plan, samples = measured()
        ceilings = CEILINGS.model_copy(update={"matrix": ()})
        found = limit(plan, samples, 1, ceilings)
        assert found.memory_s is not None
        assert (None, None) == (found.floor_s, found.mfu)
        assert "no matrix rate in the model's type" in found.why_null("floor_s")

    def test_ceilings_without_a_reading_rate_are_no_failure(self) -> None:
        plan, samples = measured()
        assert limit(plan, samples, 1, CEILINGS.model_copy(update={"read": ()})).floor_s is None

    def test_an_interrupted_run_has_no_limits_since_its_steps_are_of_several_kinds(self) -> None:
        plan, samples = measured("mode=interrupted")
        found = limit(plan, samples, 0, CEILINGS)
        assert (None, None, None) == (found.floor_s, found.launch_s, found.bound)
        assert {"not asked of an interrupted run, whose steps are of several kinds"} == {
            found.why_null(name) for name in ("floor_s", "launch_s", "bound")
        }


def test_steps_that_still_take_as_long_as_at_lengths_never_seen_are_bound_by_the_first_visit() -> None:
    plan, samples = measured("model.cached_step_s=0.074")
    probe = LengthProbe(
        attention="auto",
        context_length=200,
        steps=4,
        first_ttft_s=0.1,
        second_ttft_s=0.1,
        first_itl_s=0.074,
        second_itl_s=0.012,
        first_allocations=None,
        second_allocations=None,
        first_driver_bytes=None,
        second_driver_bytes=None,
    )
    samples.cold_evidence = [ColdEvidence(1, (probe,))]
    assert "first-visit" == limit(plan, samples, 1, CEILINGS).bound
    samples.cold_evidence = [ColdEvidence(1, (probe.model_copy(update={"first_itl_s": 0.2}),))]
    assert "first-visit" != limit(plan, samples, 1, CEILINGS).bound
