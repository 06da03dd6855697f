"""The record of a run out of its samples, whole or cut short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import kvbench
from kvbench.analysis.arm_record import arm_record
from kvbench.analysis.audits import audited, audits
from kvbench.analysis.checks import failed, run_checks
from kvbench.analysis.comparison import compare_arms
from kvbench.analysis.diagnosis.ranking import diagnosis
from kvbench.analysis.estimates import block_figures, thinned
from kvbench.analysis.growth import TIMED, TIMES_NOTHING, frontier, frontier_checks, growth, growth_reason
from kvbench.analysis.host_speed import host_warnings
from kvbench.analysis.keys import make_keys
from kvbench.analysis.limits import flops_check
from kvbench.analysis.rescore_verdict import judge_rescore
from kvbench.analysis.warnings import device_during, run_warnings
from kvbench.config.compose import to_dict
from kvbench.plan import Plan
from kvbench.records.ceilings import load_ceilings
from kvbench.records.part import null_reasons
from kvbench.records.run_record import Comparison, Keys, RunRecord, Status, Workload
from kvbench.records.samples import RunSamples
from kvbench.records.scaling import Growth
from kvbench.records.timings import tokens_sha256

EXPLAIN_THEMSELVES = ("config", "null_reasons")  # no null of theirs needs a reason


def assemble(
    plan: Plan,
    samples: RunSamples,
    *,
    run_id: str,
    created_at: str,
    ended: tuple[Status, str] | None = None,
    repeats: RunRecord | None = None,
) -> RunRecord:
    """The record; `ended` is (status, reason) of a run that did not come to its end, else the checks decide.

    `repeats` is the first run of a sweep, which this one measured again at the sweep's end.
    """
    prepared = samples.prepared
    figures = [block_figures(samples.blocks, arm) for arm in range(len(plan.arms))]
    ceilings = load_ceilings(prepared.environment) if prepared else None
    arms = tuple(arm_record(plan, samples, arm, ceilings) for arm in range(len(plan.arms))) if prepared else ()
    only_sizes = plan.config.frontier.axes is not None
    judge = frontier_checks if only_sizes else run_checks
    checks = judge(plan, samples) if ended is None else ()
    broken = failed(checks) if ended is None else (f"{ended[0]}: {ended[1]}",)
    agreement = {each.candidate_arm: each for each in samples.agreement}
    comparisons = tuple(
        compare_arms(arms, figures, candidate, agreement.get(candidate), broken)
        for candidate in (() if only_sizes else range(1, len(arms)))
    )
    status, reason = ended or _judged(broken)
    grown = growth(plan, samples)
    comparisons = tuple(_with_break_even(each, grown, plan, samples) for each in comparisons)
    data: dict[str, Any] = {
        "run_id": run_id,
        "created_at": created_at,
        "kvbench_version": kvbench.__version__,
        "status": status,
        "status_reason": reason,
        "config": to_dict(plan.config),
        "keys": make_keys(plan, prepared),
        "environment": _environment(samples),
        "model": _model(plan, samples),
        "workload": _workload(plan, samples),
        "shapes": samples.shapes.shapes if samples.shapes else None,
        "arms": arms,
        "stopping": samples.stopped,
        "comparisons": comparisons,
        "comparison": comparisons[0] if comparisons else None,
        "checks": checks,
        "warnings": (*run_warnings(plan, samples), *host_warnings(samples.host_checks, ceilings)),
        "memory_timeline": tuple(thinned(samples.host_readings)),
        "phases": tuple(samples.phases),
        "device_during": device_during(samples.all_blocks),
        "audits": audits(plan, samples),
        "references": tuple(samples.references),
        "rescores": tuple(map(judge_rescore, samples.rescores)),
        "growth": grown,
        "frontier": frontier(plan, samples),
        "ceilings": ceilings,
        "flops_check": flops_check(samples),
        "host_checks": samples.host_checks,
    }
    record = RunRecord(**data).because(_reasons(plan, samples))
    if repeats is not None and ended is None:
        record = audited(record, repeats)
    reasons = null_reasons(record, EXPLAIN_THEMSELVES)
    if only_sizes:
        reasons = {at: TIMES_NOTHING if at.startswith(TIMED) else why for at, why in reasons.items()}
    return _diagnosed(record.model_copy(update={"null_reasons": reasons}))


def _environment(samples: RunSamples) -> dict[str, Any]:
    """What the worker told, and who else measured on this host meanwhile."""
    if samples.prepared is None:
        return {}
    if not samples.sharing:
        return samples.prepared.environment
    told = [sharing.neighbours for sharing in samples.sharing if sharing.neighbours is not None]
    seen = {(each.device, each.run): each for neighbours in told for each in neighbours}
    unleased = next((each.unleased for each in samples.sharing if each.unleased), None)
    return {
        **samples.prepared.environment,
        "concurrent_runs": [{"device": each.device, "run": each.run} for each in seen.values()] if told else None,
        "waited_s": sum(each.waited_s for each in samples.sharing),
        **({} if unleased is None else {"unleased": unleased}),
    }


def unassembled(plan: Plan, samples: RunSamples, reason: str, *, run_id: str, created_at: str) -> RunRecord:
    """The record of a run whose figures could not be made: `failed`, with what was known before any was."""
    prepared = samples.prepared
    return _without_figures(
        run_id=run_id,
        created_at=created_at,
        status="failed",
        status_reason=reason,
        config=to_dict(plan.config),
        keys=make_keys(plan, prepared),
        environment=_environment(samples),
        model=_model(plan, samples),
        workload=_workload(plan, samples),
    )


def refused(overrides: Sequence[str], reason: str, *, run_id: str, created_at: str) -> RunRecord:
    """The record of a sweep's point whose configuration could not even be composed."""
    return _without_figures(
        run_id=run_id,
        created_at=created_at,
        status="refused",
        status_reason=reason,
        config={"overrides": list(overrides)},
        keys=Keys(compare_key="refused", resume_key="refused"),
        environment={},
        model=None,
        workload=None,
    )


def _without_figures(**known: Any) -> RunRecord:
    record = RunRecord(
        **known,
        kvbench_version=kvbench.__version__,
        shapes=None,
        arms=(),
        stopping=None,
        comparisons=(),
        comparison=None,
        checks=(),
        warnings=(),
        memory_timeline=(),
    )
    return record.model_copy(update={"null_reasons": null_reasons(record, EXPLAIN_THEMSELVES)})


def _diagnosed(record: RunRecord) -> RunRecord:
    """The record with what it says about itself: every figure that a sentence may rest on stands already."""
    told = tuple(
        each.model_copy(update={"diagnosis": diagnosis(record, number)})
        for number, each in enumerate(record.comparisons)
    )
    return record.model_copy(update={"comparisons": told, "comparison": told[0] if told else None})


def _with_break_even(comparison: Comparison, grown: Growth | None, plan: Plan, samples: RunSamples) -> Comparison:
    """The comparison with the context length from which its candidate is faster, where the run has found one."""
    if plan.config.scaling.lengths is None:
        return comparison
    if grown is None:
        return comparison.because({"break_even_context": growth_reason(plan, samples) or ""})
    found = next((each for each in grown.break_evens if each.candidate_arm == comparison.candidate_arm), None)
    if found is None:
        return comparison
    length = None if found.context_length is None else round(found.context_length)
    return comparison.model_copy(update={"break_even_context": length}).because({"break_even_context": found.detail})


def _judged(broken: tuple[str, ...]) -> tuple[Status, str]:
    if broken:
        return "invalid", "; ".join(broken)
    return "ok", "measured, and every check passed"


def _model(plan: Plan, samples: RunSamples) -> dict[str, Any] | None:
    if samples.prepared is None:
        return None
    facts = {key: value for key, value in samples.prepared.model.items() if key != "null_reasons"}
    if samples.counted_flops is not None and samples.counted_flops.weights is not None:
        facts["weight_parts"] = samples.counted_flops.weights
    return {**facts, "name": plan.model_name, "quantization": plan.config.model.quantization}


def _workload(plan: Plan, samples: RunSamples) -> Workload | None:
    if samples.prepared is None:
        return None
    ids = [prompt["token_ids"] for prompt in samples.prepared.prompts]
    return Workload(
        prompt_tokens=tuple(map(len, ids)),
        new_tokens=plan.config.workload.new_tokens,
        batch_size=plan.config.workload.batch_size,
        prompt_sha256=tokens_sha256(ids),
    )


def _reasons(plan: Plan, samples: RunSamples) -> dict[str, str]:
    """Why parts of the record are null that nobody could make."""
    reasons: dict[str, str] = {}
    if len(plan.arms) > 1:
        reasons["comparison"] = "the run ended before there was anything to compare"
    if samples.prepared is not None:
        facts = samples.prepared.model.get("null_reasons", {})
        reasons |= {f"model/{field}": sentence for field, sentence in facts.items()}
    if (why := growth_reason(plan, samples)) is not None:
        reasons["growth"] = why
    return reasons
