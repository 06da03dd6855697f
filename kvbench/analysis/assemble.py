"""The record of a run out of its samples, whole or cut short."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import kvbench
from kvbench.analysis.agreement import reference_distance
from kvbench.analysis.arms import arm_record
from kvbench.analysis.audits import audits
from kvbench.analysis.checks import failed, run_checks
from kvbench.analysis.comparison import compare_arms
from kvbench.analysis.device_during import device_during
from kvbench.analysis.diagnosis.ranking import diagnosis
from kvbench.analysis.estimates import block_figures
from kvbench.analysis.frontier import TIMED, TIMES_NOTHING, frontier, frontier_checks, frontier_reasons
from kvbench.analysis.growth import growth, growth_reason
from kvbench.analysis.host_speed import host_checks, host_warnings
from kvbench.analysis.keys import make_keys
from kvbench.analysis.limits import flops_check, limit_reasons
from kvbench.analysis.null_reasons import null_reasons
from kvbench.analysis.padding import padding_reason
from kvbench.analysis.series import thinned
from kvbench.analysis.sweep_audit import audited
from kvbench.analysis.warnings import run_warnings
from kvbench.capabilities import MODES
from kvbench.config.compose import to_dict
from kvbench.measuring.readings import HostReading
from kvbench.measuring.samples import RunSamples
from kvbench.plan import Plan
from kvbench.records.ceilings import Ceilings, load_ceilings
from kvbench.records.evidence import Phase
from kvbench.records.growth import Growth
from kvbench.records.schema import Comparison, HostSample, Keys, RunRecord, Status, Stopping, Workload

BY_ITSELF = "transformers' generate compiles its step by itself and does not tell how long that took"


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
    checked_host = host_checks(samples)
    grown = growth(plan, samples)
    comparisons = tuple(_with_break_even(each, grown) for each in comparisons)
    data: dict[str, Any] = {
        "run_id": run_id,
        "created_at": created_at,
        "kvbench_version": kvbench.__version__,
        "status": status,
        "status_reason": reason,
        "config": to_dict(plan.config),
        "keys": make_keys(plan, prepared),
        "environment": prepared.environment if prepared else {},
        "model": _model(plan, samples),
        "workload": _workload(plan, samples),
        "shapes": samples.shapes.shapes if samples.shapes else None,
        "arms": arms,
        "stopping": Stopping(rule=plan.config.measure.stopping, reason=samples.stopped.reason)
        if samples.stopped
        else None,
        "comparisons": comparisons,
        "comparison": comparisons[0] if comparisons else None,
        "checks": checks,
        "warnings": (*run_warnings(plan, samples), *host_warnings(checked_host, ceilings)),
        "memory_timeline": tuple(_host_sample(reading) for reading in thinned(samples.host_readings)),
        "phases": tuple(Phase(name=each.phase, seconds=each.seconds) for each in samples.phases),
        "device_during": device_during(samples.all_blocks),
        "audits": audits(plan, samples),
        "references": tuple(map(reference_distance, samples.references)),
        "growth": grown,
        "frontier": frontier(plan, samples),
        "ceilings": ceilings,
        "flops_check": flops_check(samples),
        "host_checks": checked_host,
    }
    record = RunRecord(**data)
    if repeats is not None and ended is None:
        record = audited(record, repeats)
    known = _known_reasons(plan, samples, grown, ceilings) | frontier_reasons(record.frontier)
    reasons = null_reasons(record.model_dump(), known)
    if only_sizes:
        reasons = {at: TIMES_NOTHING if at.startswith(TIMED) else why for at, why in reasons.items()}
    return _diagnosed(record.model_copy(update={"null_reasons": reasons}))


def refused(overrides: Sequence[str], reason: str, *, run_id: str, created_at: str) -> RunRecord:
    """The record of a sweep's point whose configuration could not even be composed."""
    record = RunRecord(
        run_id=run_id,
        created_at=created_at,
        kvbench_version=kvbench.__version__,
        status="refused",
        status_reason=reason,
        config={"overrides": list(overrides)},
        keys=Keys(compare_key="refused", resume_key="refused"),
        environment={},
        model=None,
        workload=None,
        shapes=None,
        arms=(),
        stopping=None,
        comparisons=(),
        comparison=None,
        checks=(),
        warnings=(),
        memory_timeline=(),
    )
    return record.model_copy(update={"null_reasons": null_reasons(record.model_dump(), {})})


def _diagnosed(record: RunRecord) -> RunRecord:
    """The record with what it says about itself: every figure that a sentence may rest on stands already."""
    told = tuple(
        each.model_copy(update={"diagnosis": diagnosis(record, number)})
        for number, each in enumerate(record.comparisons)
    )
    return record.model_copy(update={"comparisons": told, "comparison": told[0] if told else None})


def _with_break_even(comparison: Comparison, grown: Growth | None) -> Comparison:
    """The comparison with the context length from which its candidate is faster, where the run has found one."""
    found = (
        next((each for each in grown.break_evens if each.candidate_arm == comparison.candidate_arm), None)
        if grown
        else None
    )
    if found is None or found.context_length is None:
        return comparison
    return comparison.model_copy(update={"break_even_context": round(found.context_length)})


def _judged(broken: tuple[str, ...]) -> tuple[Status, str]:
    if broken:
        return "invalid", "; ".join(broken)
    return "ok", "measured, and every check passed"


def _model(plan: Plan, samples: RunSamples) -> dict[str, Any] | None:
    if samples.prepared is None:
        return None
    facts = {key: value for key, value in samples.prepared.model.items() if key != "null_reasons"}
    return {**facts, "name": plan.model_name, "quantization": plan.config.model.quantization}


def _workload(plan: Plan, samples: RunSamples) -> Workload | None:
    if samples.prepared is None:
        return None
    ids = [prompt["token_ids"] for prompt in samples.prepared.prompts]
    return Workload(
        prompt_tokens=tuple(map(len, ids)),
        new_tokens=plan.config.workload.new_tokens,
        batch_size=plan.config.workload.batch_size,
        prompt_sha256=hashlib.sha256(json.dumps(ids).encode()).hexdigest(),
    )


def _known_reasons(plan: Plan, samples: RunSamples, grown: Growth | None, ceilings: Ceilings | None) -> dict[str, str]:
    """Reasons that came with the samples: of the model's facts and of each arm's memory."""
    known: dict[str, str] = {}
    if len(plan.arms) > 1:
        known["/comparison"] = "the run ended before there was anything to compare"
    if samples.prepared is not None:
        reasons = samples.prepared.model.get("null_reasons", {})
        known |= {f"/model/{field}": sentence for field, sentence in reasons.items()}
    for untimed in samples.untimed:
        known |= {
            f"/arms/{untimed.arm}/memory/{field}": sentence for field, sentence in untimed.memory.null_reasons.items()
        }
        if (why := untimed.memory.null_reasons.get("peak_allocated_bytes")) is not None:
            pointers = _comparisons_of(untimed.arm, len(plan.arms))
            known |= {f"{pointer}/extra_memory_bytes": f"no peak of memory: {why}" for pointer in pointers}
    for window in samples.energy:
        if window.reason is not None:
            fields = ("joules_per_token", "idle_watts", "window_s", "new_tokens")
            known |= {f"/arms/{window.arm}/energy/{field}": window.reason for field in fields}
    if plan.config.scaling.lengths is not None and (why := growth_reason(plan, samples)) is not None:
        known["/growth"] = why
        pointers = ["/comparison", *(f"/comparisons/{index}" for index in range(len(plan.arms) - 1))]
        known |= {f"{pointer}/break_even_context": why for pointer in pointers}
    for number, found in enumerate(grown.break_evens if grown else ()):
        pointers = _comparisons_of(found.candidate_arm, len(plan.arms))
        known |= {f"{pointer}/break_even_context": found.detail for pointer in pointers}
        known |= {
            f"/growth/break_evens/{number}/{field}": found.detail for field in ("context_length", "ci_low", "ci_high")
        }
    for arm, spec in enumerate(plan.arms):
        if spec.repeats:
            ours = MODES[spec.mode].ours
            known[f"/arms/{arm}/cold/compile_s"] = "the run ended before the first visit" if ours else BY_ITSELF
        if (why := padding_reason(plan, arm)) is not None:
            known[f"/arms/{arm}/padding_share"] = why
        known |= {
            f"/arms/{arm}/limit/{field}": why for field, why in limit_reasons(plan, samples, arm, ceilings).items()
        }
    if samples.counted_flops is not None and samples.counted_flops.reason is not None:
        known["/flops_check/counted"] = samples.counted_flops.reason
    for evidence in samples.cold_evidence:
        if evidence.reason is not None:
            known[f"/arms/{evidence.arm}/cold/probes"] = evidence.reason
    return known


def _comparisons_of(arm: int, arms: int) -> list[str]:
    """Where the record compares this arm with the first one, or the first one with every other."""
    pointers = [f"/comparisons/{candidate - 1}" for candidate in range(1, arms) if arm in (0, candidate)]
    return pointers + (["/comparison"] if arm <= 1 else [])


def _host_sample(reading: HostReading) -> HostSample:
    return HostSample(
        elapsed_s=reading.elapsed_s,
        phase=reading.phase,
        process_rss_bytes=reading.process_rss_bytes,
        device_used_bytes=reading.device_used_bytes,
    )
