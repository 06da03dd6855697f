"""What padding to buckets adds to what decode steps without a past submit."""

from __future__ import annotations

from kvbench.decoding.buckets import Buckets
from kvbench.plan import Plan
from kvbench.records.samples import RunSamples

KEEPS_PAST = "an arm that keeps a past submits nothing but what is new, which is not padded"


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
