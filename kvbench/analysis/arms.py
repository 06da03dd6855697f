"""One arm of the record out of its samples."""

from __future__ import annotations

from collections.abc import Sequence

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
from kvbench.analysis.padding import KEEPS_PAST, padding_share
from kvbench.analysis.series import thinned
from kvbench.analysis.turns import turns
from kvbench.capabilities import MODES
from kvbench.plan import Plan
from kvbench.records.ceilings import Ceilings
from kvbench.records.part import shared
from kvbench.records.samples import RunSamples
from kvbench.records.schema import ArmRecord, Cold, Energy, Memory, ProofResult
from kvbench.records.untimed import UntimedPass

BY_ITSELF = "transformers' generate compiles its step by itself and does not tell how long that took"
NO_MEMORY = Memory.model_validate(dict.fromkeys(Memory.model_fields) | {"kv_cache_host_bytes": 0})


def arm_record(plan: Plan, samples: RunSamples, arm: int, ceilings: Ceilings | None) -> ArmRecord:
    """One arm of the record, as far as it was measured."""
    spec = plan.arms[arm]
    blocks = samples.blocks
    figures = block_figures(blocks, arm)
    untimed = next((each for each in samples.untimed if each.arm == arm), None)
    return ArmRecord(
        **shared(ArmRecord, spec),
        cold=_cold(plan, samples, arm),
        ttft_s=estimate([block.ttft_s for block in figures]),
        itl_s=estimate([block.itl_s for block in figures]),
        decode_tokens_per_s=estimate([block.decode_tokens_per_s for block in figures]),
        end_to_end_tokens_per_s=estimate([block.end_to_end_tokens_per_s for block in figures]),
        itl_percentiles_s=token_percentiles(blocks, arm),
        padding_share=padding_share(plan, samples, arm),
        step_lane_cost=step_lane_cost(blocks, arm),
        trace_cost=trace_cost(blocks, arm),
        memory=untimed.memory if untimed else NO_MEMORY,
        memory_by_context=tuple(thinned(untimed.memory_by_step)) if untimed else (),
        energy=_energy(samples, arm),
        limit=limit(plan, samples, arm, ceilings),
        tokens=untimed.tokens if untimed else (),
        texts=untimed.texts if untimed else (),
        finish_reason=untimed.finish_reasons if untimed else (),
        proof=_proof(samples, untimed, arm),
        turns=turns(plan, samples, arm),
        outlier_blocks=_outlier_blocks(samples, figures),
    ).because({"padding_share": KEEPS_PAST} if spec.keeps_past else {})


def _cold(plan: Plan, samples: RunSamples, arm: int) -> Cold:
    spec = plan.arms[arm]
    visit = next((each for each in samples.cold if each.arm == arm), None)
    found = next((each for each in samples.cold_evidence if each.arm == arm), None)
    reasons = {"probes": found.reason or ""} if found else {}
    if spec.repeats:
        reasons["compile_s"] = "the run ended before the first visit" if MODES[spec.mode].ours else BY_ITSELF
    return Cold(
        **(shared(Cold, visit) if visit else dict.fromkeys(("ttft_s", "itl_s", "compile_s"))),
        load_s=samples.prepared.load_s if samples.prepared else None,
        probes=found.probes if found and found.probes else None,
    ).because(reasons)


def _energy(samples: RunSamples, arm: int) -> Energy:
    window = next((each for each in samples.energy if each.arm == arm), None)
    nothing = Energy(joules_per_token=None, idle_watts=None, window_s=None)
    if window is None:
        return nothing
    if window.joules is None:
        return nothing.model_copy(update={"idle_watts": window.idle_watts}).because(
            dict.fromkeys(Energy.model_fields, window.reason or "")
        )
    return Energy(**shared(Energy, window), joules_per_token=window.joules / window.new_tokens)


def _outlier_blocks(samples: RunSamples, figures: Sequence[BlockFigures]) -> tuple[int, ...]:
    latencies = [block.itl_s for block in figures]
    known = [latency for latency in latencies if latency is not None]
    if len(known) < len(latencies):
        return ()
    return tuple(samples.blocks[place].index for place in outliers(known))


def _proof(samples: RunSamples, untimed: UntimedPass | None, arm: int) -> ProofResult:
    timed = [visit for block in samples.blocks for visit in block.visits if visit.arm == arm]
    return ProofResult(
        steps_checked=(untimed.proof.steps_checked if untimed else 0) + sum(visit.passes_checked for visit in timed),
        violations=(untimed.proof.violations if untimed else 0) + sum(visit.violations for visit in timed),
        first_violation=untimed.proof.first_violation if untimed else None,
        resubmitted_steps=untimed.proof.resubmitted if untimed else None,
    )
