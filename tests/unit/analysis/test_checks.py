"""What makes a run INVALID is found, named, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from runs import scripted_samples
from translations import left_in_english

from kvbench.analysis.assemble import assemble
from kvbench.analysis.checks import failed, run_checks
from kvbench.analysis.warnings import run_warnings
from kvbench.plan import Plan
from kvbench.records.evidence import RunWarning, Stopping
from kvbench.records.run_record import Check
from kvbench.records.samples import RunSamples
from kvbench.records.timings import Block


def measured(*overrides: str) -> tuple[Plan, RunSamples]:
    return scripted_samples("measure.blocks=5", *overrides)


def with_first_visit(samples: RunSamples, **changes: object) -> RunSamples:
    """The same samples, but for the first visit of their first block."""
    first: Block = samples.blocks[0]
    visits = (replace(first.visits[0], **changes), *first.visits[1:])  # type: ignore[arg-type]
    return replace(samples, all_blocks=[replace(first, visits=visits), *samples.blocks[1:]])


def check(plan: Plan, samples: RunSamples, name: str) -> Check:
    checks = run_checks(plan, samples)
    assert [] == left_in_english((f"check.{each.name}", each.detail) for each in checks if each.passed)
    (found,) = [each for each in checks if each.name == name]
    return found


def status(plan: Plan, samples: RunSamples) -> tuple[str, str]:
    record = assemble(plan, samples, run_id="r", created_at="2026-01-01T00:00:00+00:00")
    assert (record.status == "invalid") == (record.comparison is None or record.comparison.verdict == "INVALID")
    return record.status, record.status_reason or ""


class TestASoundRun:
    def test_passes_every_check(self) -> None:
        checks = run_checks(*measured())
        assert ["mode_proof", "token_count", "blocks", "agreement"] == [each.name for each in checks]
        assert () == failed(checks)
        assert [""] * 4 == [each.advice for each in checks]

    def test_of_one_arm_is_put_to_the_checks_of_one_arm(self) -> None:
        assert ["mode_proof", "token_count"] == [each.name for each in run_checks(*measured("mode=cached"))]

    def test_without_the_agreement_check_lacks_it(self) -> None:
        names = [each.name for each in run_checks(*measured("check.agreement=none"))]
        assert ["mode_proof", "token_count", "blocks"] == names


class TestAViolatedProof:
    def test_in_one_timed_visit_is_found(self) -> None:
        plan, samples = measured()
        broken = with_first_visit(samples, violations=1)
        mode = plan.arms[samples.blocks[0].visits[0].arm].mode
        found = check(plan, broken, "mode_proof")
        assert (False, True) == (found.passed, bool(found.advice))
        assert found.detail.startswith(f"1 steps of {mode} submitted something else than promised")
        assert "invalid" == status(plan, broken)[0]

    def test_in_the_untimed_pass_is_found_with_the_first_step(self) -> None:
        plan, samples = measured()
        proof = replace(samples.untimed[1].proof, violations=3, first_violation="pass 2: submitted 7, past 0 -> 7")
        broken = replace(samples, untimed=[samples.untimed[0], replace(samples.untimed[1], proof=proof)])
        found = check(plan, broken, "mode_proof")
        assert not found.passed
        assert "3 steps of cached submitted something else than promised; pass 2: submitted 7" in found.detail
        assert "mode_proof" in status(plan, broken)[1]


class TestAWrongTokenCount:
    @pytest.mark.parametrize(
        "tokens",
        [3, 5, pytest.param(0)],
    )
    def test_in_one_visit_is_found(self, tokens: int) -> None:
        plan, samples = measured()
        broken = with_first_visit(samples, new_tokens=tokens)
        found = check(plan, broken, "token_count")
        assert (False, "1 of 20 visits gave another number of tokens than asked for") == (found.passed, found.detail)
        assert "invalid" == status(plan, broken)[0]

    @pytest.mark.parametrize(("tokens", "passed"), [(0, False), (1, True), (4, True), (5, False)])
    def test_may_be_less_when_a_token_stops_it(self, tokens: int, passed: bool) -> None:
        plan, samples = measured("workload.stop=[1]")
        assert passed == check(plan, with_first_visit(samples, new_tokens=tokens), "token_count").passed


class TestAMismatch:
    def test_fails_the_check_and_the_run(self) -> None:
        plan, samples = measured()
        wrong = replace(samples.agreement[0], max_rel_logit_diff=0.5, max_abs_logit_diff=3.0, argmax_flips=2)
        broken = replace(samples, agreement=[wrong])
        found = check(plan, broken, "agreement")
        assert (False, True) == (found.passed, bool(found.advice))
        assert found.detail.startswith("cached: ")
        assert "5.0e-01" in found.detail
        assert "invalid" == status(plan, broken)[0]

    def test_of_one_candidate_among_several_names_that_one(self) -> None:
        plan, samples = measured("arms=[{mode: nocache},{mode: cached},{mode: generate}]")
        wrong = replace(samples.agreement[1], max_rel_logit_diff=0.5)
        found = check(plan, replace(samples, agreement=[samples.agreement[0], wrong]), "agreement")
        assert not found.passed
        assert "generate: " in found.detail
        assert "cached" not in found.detail

    def test_within_rounding_is_none(self) -> None:
        plan, samples = measured()
        rounding = replace(samples.agreement[0], max_rel_logit_diff=5e-7)
        assert check(plan, replace(samples, agreement=[rounding]), "agreement").passed

    @pytest.mark.parametrize("kept", [0, 1])
    def test_cannot_be_ruled_out_for_a_candidate_that_was_not_compared(self, kept: int) -> None:
        plan, samples = measured("arms=[{mode: nocache},{mode: cached},{mode: generate}]")
        assert not check(plan, replace(samples, agreement=samples.agreement[:kept]), "agreement").passed

    def test_cannot_be_ruled_out_where_the_logits_could_not_be_compared(self) -> None:
        plan, samples = measured()
        unknown = replace(samples.agreement[0], max_rel_logit_diff=None, noise_rel=None)
        assert not check(plan, replace(samples, agreement=[unknown]), "agreement").passed


class TestTooFewBlocks:
    @pytest.mark.parametrize(("blocks", "passed"), [(1, False), (4, False), (5, True), (6, True)])
    def test_fail_with_the_number_needed(self, blocks: int, passed: bool) -> None:
        plan, samples = measured(f"measure.blocks={blocks}")
        found = check(plan, samples, "blocks")
        assert (passed, f"{blocks} blocks measured, a verdict needs 5") == (found.passed, found.detail)
        assert passed != bool(found.advice)


class TestAWarning:
    def test_is_missing_from_a_quiet_run(self) -> None:
        assert () == run_warnings(*measured())

    def test_of_the_worker_is_passed_on(self) -> None:
        plan, samples = measured()
        samples.warnings.append(RunWarning(code="throttled", detail="hot"))
        assert [("throttled", "hot")] == [(each.code, each.detail) for each in run_warnings(plan, samples)]

    def test_tells_that_a_cap_ended_the_run(self) -> None:
        plan, samples = measured()
        samples.stopped = Stopping(rule="precision", reason="cap: 64 blocks measured before the target precision")
        assert ["stopping_cap"] == [each.code for each in run_warnings(plan, samples)]
        assert "ok" == status(plan, samples)[0]

    def test_tells_that_tokens_vary_without_making_the_run_invalid(self) -> None:
        plan, samples = measured()
        varying = with_first_visit(samples, tokens_sha256="other")
        assert ["tokens_vary"] == [each.code for each in run_warnings(plan, varying)]
        assert "ok" == status(plan, varying)[0]

    @pytest.mark.parametrize(
        ("facts", "codes"),
        [
            ({"cpu_governor": "powersave"}, ["cpu_governor"]),
            ({"cpu_governor": "performance", "on_battery": False, "torch_debug": False}, []),
            ({"cpu_governor": None, "on_battery": None}, []),
            ({"on_battery": True}, ["on_battery"]),
            ({"torch_debug": True}, ["debug_build"]),
        ],
    )
    def test_tells_of_a_machine_that_holds_its_clocks_down(self, facts: dict[str, object], codes: list[str]) -> None:
        plan, samples = measured()
        assert samples.prepared is not None
        environment = {**samples.prepared.environment, "load_average_1m": None, **facts}
        slow = replace(samples, prepared=replace(samples.prepared, environment=environment))
        assert codes == [each.code for each in run_warnings(plan, slow)]
        assert "ok" == status(plan, slow)[0]

    @pytest.mark.parametrize(("load", "warned"), [(2.0, False), (2.1, True), (None, False)])
    def test_tells_of_a_busy_host(self, load: float | None, warned: bool) -> None:
        plan, samples = measured()
        assert samples.prepared is not None
        environment = {**samples.prepared.environment, "load_average_1m": load, "logical_cores": 4}
        busy = replace(samples, prepared=replace(samples.prepared, environment=environment))
        assert warned == (["host_load"] == [each.code for each in run_warnings(plan, busy)])
        assert "ok" == status(plan, busy)[0]


class TestATransformersNewerThanAnyTested:
    def of(self, samples: RunSamples, version: str) -> RunSamples:
        assert samples.prepared is not None
        environment = {**samples.prepared.environment, "transformers": version}
        return replace(samples, prepared=replace(samples.prepared, environment=environment))

    def test_is_a_warning(self) -> None:
        plan, samples = measured()
        (warned,) = run_warnings(plan, self.of(samples, "99.1.0"))
        assert "transformers_untested" == warned.code
        assert warned.detail.startswith("transformers 99.1.0 is newer than 5.24.0, the newest that kvbench was tested")

    def test_is_named_beside_a_failed_check_as_another_possible_cause(self) -> None:
        plan, samples = measured()
        found = check(plan, self.of(with_first_visit(samples, violations=1), "99.1.0"), "mode_proof")
        assert "transformers 99.1.0 is newer than 5.24.0" in found.advice

    def test_of_a_sound_run_changes_no_check(self) -> None:
        plan, samples = measured()
        assert run_checks(plan, samples) == run_checks(plan, self.of(samples, "99.1.0"))

    def test_is_not_what_a_tested_one_is(self) -> None:
        plan, samples = measured()
        assert () == run_warnings(plan, self.of(samples, "5.24.0"))
