"""What arms compute, read, hold and use, beside their times: arithmetic, bytes, memory, energy, a rebuilt cache."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.analysis.diagnosis.pair import Pair, of_arm, percent
from kvbench.analysis.diagnosis.surcharges import VISIBLE_PADDING
from kvbench.capabilities import CACHES
from kvbench.records.evidence import Sentence
from kvbench.records.untimed import MemoryPoint
from kvbench.text import fixed, format_value

NEAR = 0.75  # of the read bandwidth; what compilers make of a step stays below, kernels written for it come here
BEYOND = 1.1  # a share that no ceiling allows: the working set came from a cache that the ceiling did not
NOTABLE_ENERGY = 0.05  # the counter moves every 100 ms and has no interval here
NOTABLE_PEAK = 0.01  # of the baseline's


def arithmetic(pair: Pair) -> Sentence | None:
    """What the cache saves in arithmetic, and what that became in time; where both wait for launches, that is told."""
    baseline, candidate = pair.baseline.limit, pair.candidate.limit
    if not pair.adds_a_cache or baseline.bound == candidate.bound == "launch":
        return None
    if not baseline.flops or not candidate.flops or not pair.comparison.speedup.value:
        return None
    cite = pair.citing()
    names = [pair.name(arm) for arm in pair.arms]
    theirs, mine = (cite.value(of_arm(arm, "limit/flops")) for arm in pair.arms)
    text = (
        f"A step of {names[0]} needs {format_value(theirs, 'FLOP')}, one of {names[1]} {format_value(mine, 'FLOP')}:"
        f" {_times(theirs / mine)} the arithmetic for {cite(pair.at('speedup/value'), _times)} the time"
    )
    if (pair.baseline.padding_share or 0.0) >= VISIBLE_PADDING:
        text += f", without the {cite(of_arm(pair.arms[0], 'padding_share'), percent)} that padding adds to {names[0]}"
    if baseline.bound == "compute" and baseline.mfu is not None and baseline.mfu <= BEYOND:
        cite.rest_on(of_arm(pair.arms[0], "limit/bound"))
        used = cite(of_arm(pair.arms[0], "limit/mfu"), percent)
        text += f"; {names[0]} is bound by computing, at {used} of this machine's rate (MFU)"
    return cite.sentence("arithmetic", f"{text}.")


def reading(pair: Pair) -> Sentence | None:
    """How long a step that keeps a past must read for, and how long it takes."""
    limit, arm = pair.candidate.limit, pair.arms[1]
    known = None not in (limit.weight_bytes, limit.kv_bytes, pair.candidate.itl_s.value)
    if not pair.candidate.keeps_past or not known or not limit.memory_s or limit.mbu is None or limit.mbu > BEYOND:
        return None
    if limit.compute_s is not None and limit.compute_s > limit.memory_s:
        return None
    cite = pair.citing()
    paths = ("limit/weight_bytes", "limit/kv_bytes", "limit/memory_s", "limit/mbu")
    weights, past, memory_s, used = (cite.value(of_arm(arm, path)) for path in paths)
    text = (
        f"A step of {pair.name(arm)} reads {format_value(weights + past, 'bytes read')} of weights and cache: at this"
        f" machine's {format_value((weights + past) / memory_s, 'bytes/s')} that is {format_value(memory_s, 's')}; it"
        f" takes {cite(of_arm(arm, 'itl_s/value'), 's')} (MBU {percent(used)})"
    )
    if used >= NEAR:
        text += ", near what the machine allows: only fewer bytes or more sequences for each reading would raise it"
    return cite.sentence("reading", f"{text}.")


def communication(pair: Pair) -> Sentence | None:
    """What part of a step goes to exchanging tensors between the devices that share the model."""
    arm = pair.arms[1]
    ranks = (pair.record.model or {}).get("ranks") or 1
    exchanged_s, step_s = pair.candidate.limit.communication_s, pair.candidate.itl_s.value
    if ranks == 1 or not exchanged_s or not step_s:
        return None
    cite = pair.citing()
    text = (
        f"Of the {cite(of_arm(arm, 'itl_s/value'), 's')} that a step of {pair.name(arm)} takes,"
        f" {cite(of_arm(arm, 'limit/communication_s'), 's')} are communication between the"
        f" {cite('/model/ranks', 'count')} ranks ({percent(exchanged_s / step_s)})"
    )
    other, other_s = pair.baseline.limit.communication_s, pair.baseline.itl_s.value
    if other and other_s:
        text += (
            f"; of the {cite(of_arm(pair.arms[0], 'itl_s/value'), 's')} of {pair.name(pair.arms[0])},"
            f" {cite(of_arm(pair.arms[0], 'limit/communication_s'), 's')}"
        )
    return cite.sentence("communication", f"{text}.")


def cache_bytes(pair: Pair) -> Sentence | None:
    """What the cache holds at the end, what a token adds, and what became of the peak."""
    memory, arm = pair.candidate.memory, pair.arms[1]
    workload, model = pair.record.workload, pair.record.model or {}
    if not pair.adds_a_cache or not memory.kv_cache_bytes or workload is None:
        return None
    cite = pair.citing()
    held = cite(of_arm(arm, "memory/kv_cache_bytes"), "bytes")
    rows = min(cite.value("/workload/batch_size"), len(workload.prompt_tokens))
    sequences = "one sequence" if rows == 1 else f"{rows:,} sequences"
    kind = CACHES.get(pair.candidate.cache)
    points = pair.candidate.memory_by_context if kind is None else ()
    if (kind is not None and kind.static) or _never_grows(points):
        for place in (0, len(points) - 1) if points else ():
            cite.rest_on(of_arm(arm, f"memory_by_context/{place}/kv_cache_bytes"))
        text = f"The cache is allocated whole, {held} for {sequences}"
    else:
        text = f"The cache holds {held} of {sequences} at the end of the run"
    if model.get("kv_bytes_per_token") and model.get("sliding_window") is None:
        text += f", {cite('/model/kv_bytes_per_token', 'bytes')} a token{'' if rows == 1 else ' of each'}"
    extra, peak = pair.comparison.extra_memory_bytes, pair.baseline.memory.peak_allocated_bytes
    if extra is not None and peak and memory.peak_allocated_bytes is not None and abs(extra) > NOTABLE_PEAK * peak:
        apart = format_value(abs(cite.value(pair.at("extra_memory_bytes"))), "bytes")
        text += f"; the peak of memory is {apart} {'higher' if extra > 0 else 'lower'} than without"
    return cite.sentence("cache_bytes", f"{text}.")


def _never_grows(points: Sequence[MemoryPoint]) -> bool:
    """Whether a cache of a model's own has the same size at the first token and at the last."""
    if len(points) < 2 or points[0].context_length == points[-1].context_length:
        return False
    return points[0].kv_cache_bytes == points[-1].kv_cache_bytes is not None


def energy(pair: Pair) -> Sentence | None:
    """Energy per new token, where both were measured and differ by more than such a reading does."""
    if not pair.baseline.energy.joules_per_token or not pair.candidate.energy.joules_per_token:
        return None
    cite = pair.citing()
    theirs, mine = (cite.value(of_arm(arm, "energy/joules_per_token")) for arm in pair.arms)
    if abs(1 - mine / theirs) < NOTABLE_ENERGY:
        return None
    subject = "The cache" if pair.adds_a_cache else pair.name(pair.arms[1])
    change = f"saves {percent(1 - mine / theirs)}" if mine < theirs else f"adds {percent(mine / theirs - 1)}"
    text = (
        f"{subject} {change} of the energy per token: {format_value(mine, 'J/token')} instead of"
        f" {format_value(theirs, 'J/token')}, idle power included."
    )
    return cite.sentence("energy", text)


def rebuilding(pair: Pair) -> Sentence | None:
    """What a lost cache costs to rebuild, at the last interruption."""
    turns, arm = pair.candidate.turns, pair.arms[1]
    if pair.candidate.mode != "interrupted" or not turns or turns[-1].ttft_s.value is None:
        return None
    cite, last = pair.citing(), of_arm(arm, f"turns/{len(turns) - 1}")
    text = (
        f"Rebuilding the lost cache at {cite(f'{last}/context_length', 'count')} tokens takes"
        f" {cite(f'{last}/ttft_s/value', 's')}"
    )
    if turns[-1].paid_back_after_tokens is not None:
        text += f" and is paid back after {cite(f'{last}/paid_back_after_tokens', 'count')} new tokens"
    return cite.sentence("rebuilding", f"{text}.")


def _times(ratio: float) -> str:
    return f"{fixed(ratio, 0) if ratio >= 10 else fixed(ratio, 2)} times"
