"""What an interruption costs, and when a rebuilt cache has paid for itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kvbench.analysis.estimates import estimate
from kvbench.plan import Plan
from kvbench.records.samples import RunSamples
from kvbench.records.schema import Turn
from kvbench.records.timings import Block
from kvbench.statistics import median

NO_STEP = "the per-token lane has no such step (measure.step_lane)"


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
