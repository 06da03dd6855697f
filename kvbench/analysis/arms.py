"""One arm of the record out of its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from kvbench.analysis.estimates import (
    BlockFigures,
    block_figures,
    estimate,
    outliers,
    step_lane_cost,
    token_percentiles,
    trace_cost,
)
from kvbench.analysis.limits import limit
from kvbench.analysis.padding import padding_share
from kvbench.analysis.series import thinned
from kvbench.analysis.turns import turns
from kvbench.measuring.samples import RunSamples
from kvbench.measuring.untimed_pass import UntimedPass
from kvbench.plan import Plan
from kvbench.records.ceilings import Ceilings
from kvbench.records.evidence import LengthProbe, Reconciliation
from kvbench.records.schema import ArmRecord, Cold, Energy, Memory, MemoryPoint, ProofResult


def arm_record(plan: Plan, samples: RunSamples, arm: int, ceilings: Ceilings | None) -> ArmRecord:
    """One arm of the record, as far as it was measured."""
    blocks = samples.blocks
    figures = block_figures(blocks, arm)
    untimed = next((each for each in samples.untimed if each.arm == arm), None)
    return ArmRecord(
        **asdict(plan.arms[arm]),
        cold=_cold(samples, arm),
        ttft_s=estimate([block.ttft_s for block in figures]),
        itl_s=estimate([block.itl_s for block in figures]),
        decode_tokens_per_s=estimate([block.decode_tokens_per_s for block in figures]),
        end_to_end_tokens_per_s=estimate([block.end_to_end_tokens_per_s for block in figures]),
        itl_percentiles_s=token_percentiles(blocks, arm),
        padding_share=padding_share(plan, samples, arm),
        step_lane_cost=step_lane_cost(blocks, arm),
        trace_cost=trace_cost(blocks, arm),
        memory=_memory(untimed),
        memory_by_context=_memory_by_context(untimed),
        energy=_energy(samples, arm),
        limit=limit(plan, samples, arm, ceilings),
        tokens=untimed.tokens if untimed else (),
        texts=untimed.texts if untimed else (),
        finish_reason=untimed.finish_reasons if untimed else (),
        proof=_proof(samples, untimed, arm),
        turns=turns(plan, samples, arm),
        outlier_blocks=_outlier_blocks(samples, figures),
    )


def _cold(samples: RunSamples, arm: int) -> Cold:
    visit = next((each for each in samples.cold if each.arm == arm), None)
    found = next((each for each in samples.cold_evidence if each.arm == arm), None)
    return Cold(
        ttft_s=visit.ttft_s if visit else None,
        itl_s=visit.itl_s if visit else None,
        load_s=samples.prepared.load_s if samples.prepared else None,
        compile_s=visit.prepared_s if visit else None,
        step_s=visit.step_s if visit else (),
        probes=tuple(LengthProbe(**asdict(probe)) for probe in found.probes) if found and found.probes else None,
    )


def _energy(samples: RunSamples, arm: int) -> Energy:
    window = next((each for each in samples.energy if each.arm == arm), None)
    if window is None or window.joules is None:
        idle_watts = window.idle_watts if window else None
        return Energy(joules_per_token=None, idle_watts=idle_watts, window_s=None, new_tokens=None)
    return Energy(
        joules_per_token=window.joules / window.new_tokens,
        idle_watts=window.idle_watts,
        window_s=window.window_s,
        new_tokens=window.new_tokens,
    )


def _outlier_blocks(samples: RunSamples, figures: Sequence[BlockFigures]) -> tuple[int, ...]:
    latencies = [block.itl_s for block in figures]
    known = [latency for latency in latencies if latency is not None]
    if len(known) < len(latencies):
        return ()
    return tuple(samples.blocks[place].index for place in outliers(known))


def _memory(untimed: UntimedPass | None) -> Memory:
    values = {name: getattr(untimed.memory, name) if untimed else None for name in Memory.model_fields}
    found, on_host = values.pop("reconciliation"), values.pop("kv_cache_host_bytes")
    reconciliation = Reconciliation(**asdict(found)) if found else None
    return Memory(**values, reconciliation=reconciliation, kv_cache_host_bytes=on_host or 0)


def _memory_by_context(untimed: UntimedPass | None) -> tuple[MemoryPoint, ...]:
    points = untimed.memory_by_step if untimed else ()
    return tuple(
        MemoryPoint(
            context_length=point.context_length,
            kv_cache_bytes=point.kv_cache_bytes,
            allocated_bytes=point.allocated_bytes,
        )
        for point in thinned(points)
    )


def _proof(samples: RunSamples, untimed: UntimedPass | None, arm: int) -> ProofResult:
    timed = [visit for block in samples.blocks for visit in block.visits if visit.arm == arm]
    return ProofResult(
        steps_checked=(untimed.proof.steps_checked if untimed else 0) + sum(visit.passes_checked for visit in timed),
        violations=(untimed.proof.violations if untimed else 0) + sum(visit.violations for visit in timed),
        first_violation=untimed.proof.first_violation if untimed else None,
        resubmitted_steps=untimed.proof.resubmitted if untimed else None,
    )
