"""One arm of the record out of its samples, with what padding adds and what interruptions cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from kvbench.analysis.estimates import (
    BlockFigures,
    block_figures,
    estimate,
    outliers,
    step_lane_cost,
    thinned,
    token_percentiles,
    trace_cost,
)
from kvbench.analysis.limits import limit
from kvbench.capabilities import MODES
from kvbench.passes import Buckets
from kvbench.plan import Plan
from kvbench.records.arm_figures import Cold, Energy, ProofResult, Turn
from kvbench.records.ceilings import Ceilings
from kvbench.records.part import shared
from kvbench.records.proposals import NO_DRAFT, Proposals
from kvbench.records.run_record import ArmRecord
from kvbench.records.samples import RunSamples
from kvbench.records.timings import Block
from kvbench.records.untimed import Memory, UntimedPass
from kvbench.statistics import median

KEEPS_PAST = "an arm that keeps a past submits nothing but what is new, which is not padded"
NO_STEP = "the per-token lane has no such step (measure.step_lane)"
BY_ITSELF = "transformers' generate compiles its step by itself and does not tell how long that took"
NO_MEMORY = Memory.model_validate(dict.fromkeys(Memory.model_fields) | {"kv_cache_host_bytes": 0})


def arm_record(plan: Plan, samples: RunSamples, arm: int, ceilings: Ceilings | None) -> ArmRecord:
    """One arm of the record, as far as it was measured."""
    spec = plan.arms[arm]
    blocks = samples.blocks
    figures = block_figures(blocks, arm)
    untimed = next((each for each in samples.untimed if each.arm == arm), None)
    return ArmRecord(
        **asdict(spec),
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
        ranks=untimed.ranks if untimed else (),
        memory_by_context=tuple(thinned(untimed.memory_by_step)) if untimed else (),
        energy=_energy(samples, arm),
        limit=limit(plan, samples, arm, ceilings),
        tokens=untimed.tokens if untimed else (),
        texts=untimed.texts if untimed else (),
        text_ends=untimed.text_ends if untimed else (),
        finish_reason=untimed.finish_reasons if untimed else (),
        proof=_proof(samples, untimed, arm),
        turns=turns(plan, samples, arm),
        proposals=_proposals(untimed, figures),
        prefix=untimed.prefix if untimed else None,
        outlier_blocks=_outlier_blocks(samples, figures),
    ).because({"padding_share": KEEPS_PAST} if spec.keeps_past else {})


def _proposals(untimed: UntimedPass | None, figures: Sequence[BlockFigures]) -> Proposals | None:
    """What was counted in the untimed pass, with the time of a pass in the blocks."""
    if untimed is None or untimed.proposals is None:
        return None
    counted = untimed.proposals
    told = {name: getattr(counted, name) for name in Proposals.model_fields}
    reasons = {} if counted.draft_model is not None else {"draft_parameters": NO_DRAFT}
    return Proposals(**{**told, "pass_s": estimate([block.pass_s for block in figures])}).because(reasons)


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
    return Energy(
        **shared(Energy, window),
        joules_per_token=window.joules / window.new_tokens,
        device_joules_per_token=tuple(joules / window.new_tokens for joules in window.device_joules),
    )


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


def padding_share(plan: Plan, samples: RunSamples, arm: int) -> float | None:
    """Submitted over needed tokens, minus 1, over the decode steps of all sequences; 0 at exact lengths.

    Needed are those of a batch's context, the padding of its shorter prompts included. None for an arm that
    keeps a past, and of a run without decode steps.
    """
    prepared, blocks = samples.prepared, samples.blocks
    if prepared is None or not blocks or plan.arms[arm].keeps_past:
        return None
    buckets = Buckets(plan.arms[arm].bucket or 1, prepared.model.get("max_context"))
    needed = submitted = 0
    for visit in blocks[0].visits:
        if visit.arm != arm or visit.lane != "throughput":
            continue
        members = prepared.batches[visit.batch]
        prompt = max(len(prepared.prompts[index]["token_ids"]) for index in members)
        contexts = [prepared.interruptions.context(prompt, step) for step in range(1, visit.steps + 1)]
        needed += len(members) * sum(contexts)
        submitted += len(members) * sum(map(buckets.padded, contexts))
    return submitted / needed - 1 if needed else None


def turns(plan: Plan, samples: RunSamples, arm: int) -> tuple[Turn, ...]:
    """One entry per interruption of this arm; none for a run without interruptions.

    Lengths are those of the first batch, times are means over all batches.
    """
    if samples.prepared is None:
        return ()
    prepared, mode = samples.prepared, plan.arms[arm].mode
    interruptions = prepared.interruptions
    prompt = max(len(prepared.prompts[index]["token_ids"]) for index in prepared.batches[0])
    recompute = next((index for index, spec in enumerate(plan.arms) if spec.mode == "nocache"), None)
    found = []
    for step in interruptions.steps:
        context = interruptions.context(prompt, step)
        appends = plan.arms[arm].keeps_past and mode != "interrupted"
        latencies = _latencies(samples.blocks, arm, step)
        paid_back = None
        if mode == "interrupted" and recompute is not None and latencies:
            ordinary = _ordinary(samples.blocks, arm, interruptions.steps)
            without_cache = _latencies(samples.blocks, recompute, step)
            if ordinary is not None and without_cache:
                paid_back = paid_back_after(median(latencies), ordinary, median(without_cache))
        found.append(
            Turn(
                step=step,
                context_length=context,
                submitted_tokens=context - interruptions.context(prompt, step - 1) if appends else context,
                ttft_s=estimate(latencies).because({"value": NO_STEP}),
                paid_back_after_tokens=paid_back,
            )
        )
    return tuple(found)


def paid_back_after(rebuild_s: float, cached_step_s: float, nocache_step_s: float) -> int | None:
    """The fewest tokens n, the first made by the rebuilding pass, with rebuild + (n - 1) cached <= n nocache.

    The recompute step is taken as constant, though it grows: the answer is at most too high. None when a step without a
    cache is no slower than one with it, unless the rebuild itself is no dearer.
    """
    if rebuild_s <= nocache_step_s:
        return 1
    if nocache_step_s <= cached_step_s:
        return None
    return math.ceil((rebuild_s - cached_step_s) / (nocache_step_s - cached_step_s))


def _latencies(blocks: Sequence[Block], arm: int, step: int) -> list[float]:
    """Per block, the mean over its batches of the time of one step in the per-token lane."""
    means = []
    for block in blocks:
        runs = [visit.step_s or () for visit in block.visits if visit.arm == arm]
        times = [seconds[step - 1] for seconds in runs if len(seconds) >= step]
        if times:
            means.append(sum(times) / len(times))
    return means


def _ordinary(blocks: Sequence[Block], arm: int, interrupted: Sequence[int]) -> float | None:
    """The median step of this arm that follows no interruption."""
    times = [
        seconds
        for block in blocks
        for visit in block.visits
        if visit.arm == arm
        for step, seconds in enumerate(visit.step_s or (), start=1)
        if step not in interrupted
    ]
    return median(times) if times else None
