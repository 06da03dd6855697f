"""The record of a run out of its samples, whole or cut short."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import kvbench
from kvbench.analysis.checks import failed, run_checks, run_warnings
from kvbench.analysis.comparison import compare_arms
from kvbench.analysis.estimates import block_figures, estimate, step_lane_cost, token_percentiles, trace_cost
from kvbench.analysis.keys import make_keys
from kvbench.analysis.null_reasons import null_reasons
from kvbench.analysis.turns import turns
from kvbench.config.compose import to_dict
from kvbench.measuring.samples import ColdVisit, HostReading, RunSamples, UntimedPass
from kvbench.plan import Plan
from kvbench.records.schema import (
    ArmRecord,
    Cold,
    Energy,
    HostSample,
    Keys,
    Limit,
    Memory,
    MemoryPoint,
    ProofResult,
    RunRecord,
    Status,
    Stopping,
    Workload,
)

MAX_POINTS = 400  # of a memory series in the record: more than a chart has pixels for


def assemble(
    plan: Plan,
    samples: RunSamples,
    *,
    run_id: str,
    created_at: str,
    ended: tuple[Status, str] | None = None,
) -> RunRecord:
    """The record; `ended` is (status, reason) of a run that did not come to its end, else the checks decide."""
    prepared = samples.prepared
    figures = [block_figures(samples.blocks, arm) for arm in range(len(plan.arms))]
    arms = tuple(_arm(plan, samples, arm) for arm in range(len(plan.arms))) if prepared else ()
    checks = run_checks(plan, samples) if ended is None else ()
    broken = failed(checks) if ended is None else (f"{ended[0]}: {ended[1]}",)
    agreement = {each.candidate_arm: each for each in samples.agreement}
    comparisons = tuple(
        compare_arms(arms, figures, candidate, agreement.get(candidate), broken) for candidate in range(1, len(arms))
    )
    status, reason = ended or _judged(broken)
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
        "warnings": run_warnings(plan, samples),
        "memory_timeline": tuple(_host_sample(reading) for reading in _thinned(samples.host_readings)),
    }
    record = RunRecord(**data)
    return record.model_copy(update={"null_reasons": null_reasons(record.model_dump(), _known_reasons(plan, samples))})


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


def _judged(broken: tuple[str, ...]) -> tuple[Status, str]:
    if broken:
        return "invalid", "; ".join(broken)
    return "ok", "measured, and every check passed"


def _arm(plan: Plan, samples: RunSamples, arm: int) -> ArmRecord:
    spec = plan.arms[arm]
    blocks = samples.blocks
    figures = block_figures(blocks, arm)
    untimed = next((each for each in samples.untimed if each.arm == arm), None)
    cold = next((each for each in samples.cold if each.arm == arm), None)
    return ArmRecord(
        mode=spec.mode,
        cache=spec.cache,
        engine=spec.engine,
        attention=spec.attention,
        habit=spec.habit,
        cold=_cold(cold, samples),
        ttft_s=estimate([block.ttft_s for block in figures]),
        itl_s=estimate([block.itl_s for block in figures]),
        decode_tokens_per_s=estimate([block.decode_tokens_per_s for block in figures]),
        end_to_end_tokens_per_s=estimate([block.end_to_end_tokens_per_s for block in figures]),
        itl_percentiles_s=token_percentiles(blocks, arm),
        step_lane_cost=step_lane_cost(blocks, arm),
        trace_cost=trace_cost(blocks, arm),
        memory=_memory(untimed),
        memory_by_context=_memory_by_context(untimed),
        energy=Energy(joules_per_token=None, idle_watts=None, window_s=None),
        limit=Limit(floor_s=None, bound=None, mbu=None, mfu=None, launch_s=None),
        tokens=untimed.tokens if untimed else (),
        texts=untimed.texts if untimed else (),
        finish_reason=untimed.finish_reasons if untimed else (),
        proof=_proof(samples, untimed, arm),
        turns=turns(plan, samples, arm),
    )


def _cold(cold: ColdVisit | None, samples: RunSamples) -> Cold:
    load_s = samples.prepared.load_s if samples.prepared else None
    if cold is None:
        return Cold(ttft_s=None, itl_s=None, load_s=load_s, compile_s=None)
    return Cold(ttft_s=cold.ttft_s, itl_s=cold.itl_s, load_s=load_s, compile_s=None)


def _memory(untimed: UntimedPass | None) -> Memory:
    values = {name: getattr(untimed.memory, name) if untimed else None for name in Memory.model_fields}
    return Memory(**values)


def _memory_by_context(untimed: UntimedPass | None) -> tuple[MemoryPoint, ...]:
    points = untimed.memory_by_step if untimed else ()
    return tuple(
        MemoryPoint(
            context_length=point.context_length,
            kv_cache_bytes=point.kv_cache_bytes,
            allocated_bytes=point.allocated_bytes,
        )
        for point in _thinned(points)
    )


def _proof(samples: RunSamples, untimed: UntimedPass | None, arm: int) -> ProofResult:
    timed = [visit for block in samples.blocks for visit in block.visits if visit.arm == arm]
    return ProofResult(
        steps_checked=(untimed.proof.steps_checked if untimed else 0) + sum(visit.passes_checked for visit in timed),
        violations=(untimed.proof.violations if untimed else 0) + sum(visit.violations for visit in timed),
    )


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


def _known_reasons(plan: Plan, samples: RunSamples) -> dict[str, str]:
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
    return known


def _host_sample(reading: HostReading) -> HostSample:
    return HostSample(
        elapsed_s=reading.elapsed_s,
        phase=reading.phase,
        process_rss_bytes=reading.process_rss_bytes,
        device_used_bytes=reading.device_used_bytes,
    )


def _thinned(points: Any) -> Any:
    """At most `MAX_POINTS` of a series, evenly spaced, the last one included."""
    stride = -(-len(points) // MAX_POINTS) or 1
    return [*points[:-1:stride], *points[-1:]]
