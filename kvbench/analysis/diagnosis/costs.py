"""What a candidate costs, or saves, besides time."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Pair, of_arm, percent
from kvbench.capabilities import CACHES
from kvbench.quantities import format_value
from kvbench.records.evidence import Sentence

NOTABLE_ENERGY = 0.05  # the counter moves every 100 ms and has no interval here
NOTABLE_PEAK = 0.01  # of the baseline's


def cache_bytes(pair: Pair) -> Sentence | None:
    """What the cache holds at the end, what a token adds, and what became of the peak."""
    memory, arm = pair.candidate.memory, pair.arms[1]
    workload, model = pair.record.workload, pair.record.model or {}
    if not pair.adds_a_cache or not memory.kv_cache_bytes or workload is None:
        return None
    rows = min(workload.batch_size, len(workload.prompt_tokens))
    sequences = "one sequence" if rows == 1 else f"{rows:,} sequences"
    held = format_value(memory.kv_cache_bytes, "bytes")
    kind = CACHES.get(pair.candidate.cache)
    if kind is not None and kind.static:
        text = f"The cache is allocated whole, {held} for {sequences}"
    else:
        text = f"The cache holds {held} of {sequences} at the end of the run"
    evidence = [*of_arm(arm, "memory/kv_cache_bytes"), "/workload/batch_size"]
    per_token = model.get("kv_bytes_per_token")
    if per_token and model.get("sliding_window") is None:
        text += f", {format_value(per_token, 'bytes')} a token{'' if rows == 1 else ' of each'}"
        evidence.append("/model/kv_bytes_per_token")
    extra, peak = pair.comparison.extra_memory_bytes, pair.baseline.memory.peak_allocated_bytes
    if extra is not None and peak and memory.peak_allocated_bytes is not None and abs(extra) > NOTABLE_PEAK * peak:
        more = "higher" if extra > 0 else "lower"
        text += f"; the peak of memory is {format_value(abs(extra), 'bytes')} {more} than without"
        evidence.append(pair.at("extra_memory_bytes"))
    return Sentence(code="cache_bytes", text=f"{text}.", evidence=tuple(evidence))


def energy(pair: Pair) -> Sentence | None:
    """Energy per new token, where both were measured and differ by more than such a reading does."""
    theirs, mine = pair.baseline.energy.joules_per_token, pair.candidate.energy.joules_per_token
    if not theirs or not mine or abs(1 - mine / theirs) < NOTABLE_ENERGY:
        return None
    subject = "The cache" if pair.adds_a_cache else pair.name(pair.arms[1])
    change = f"saves {percent(1 - mine / theirs)}" if mine < theirs else f"adds {percent(mine / theirs - 1)}"
    text = (
        f"{subject} {change} of the energy per token: {format_value(mine, 'J/token')} instead of"
        f" {format_value(theirs, 'J/token')}, idle power included."
    )
    evidence = tuple(of_arm(arm, "energy/joules_per_token")[0] for arm in pair.arms)
    return Sentence(code="energy", text=text, evidence=evidence)


def rebuilding(pair: Pair) -> Sentence | None:
    """What a lost cache costs to rebuild, at the last interruption."""
    turns, arm = pair.candidate.turns, pair.arms[1]
    if pair.candidate.mode != "interrupted" or not turns or turns[-1].ttft_s.value is None:
        return None
    last, path = turns[-1], f"turns/{len(turns) - 1}"
    text = f"Rebuilding the lost cache at {last.context_length:,} tokens takes {format_value(last.ttft_s.value, 's')}"
    evidence = of_arm(arm, f"{path}/context_length", f"{path}/ttft_s/value")
    if last.paid_back_after_tokens is not None:
        text += f" and is paid back after {last.paid_back_after_tokens:,} new tokens"
        evidence += of_arm(arm, f"{path}/paid_back_after_tokens")
    return Sentence(code="rebuilding", text=f"{text}.", evidence=evidence)
