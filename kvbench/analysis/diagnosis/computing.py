"""What steps compute and read, needed or not, and how near they come to the machine's ceilings."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Pair, differing, keeps_past, of_arm, percent
from kvbench.capabilities import habits_of
from kvbench.quantities import fixed, format_value
from kvbench.records.evidence import Sentence
from kvbench.records.schema import ArmRecord

VISIBLE_LOGITS = 0.05  # of a step's arithmetic; less is not worth a sentence
VISIBLE_PADDING = 0.05  # of the tokens that a step needs
NEAR = 0.75  # of the read bandwidth; what compilers make of a step stays below, kernels written for it come here
BEYOND = 1.1  # a share that no ceiling allows: the working set came from a cache that the ceiling did not


def arithmetic(pair: Pair) -> Sentence | None:
    """What the cache saves in arithmetic, and what that became in time; where both wait for launches, that is told."""
    baseline, candidate = pair.baseline.limit, pair.candidate.limit
    speedup = pair.comparison.speedup.value
    if not pair.adds_a_cache or baseline.bound == candidate.bound == "launch":
        return None
    if not baseline.flops or not candidate.flops or not speedup:
        return None
    names = [pair.name(arm) for arm in pair.arms]
    text = (
        f"A step of {names[0]} needs {format_value(baseline.flops, 'FLOP')}, one of {names[1]}"
        f" {format_value(candidate.flops, 'FLOP')}: {_times(baseline.flops / candidate.flops)} the arithmetic for"
        f" {_times(speedup)} the time"
    )
    evidence = [pointer for arm in pair.arms for pointer in of_arm(arm, "limit/flops")] + [pair.at("speedup/value")]
    if (pair.baseline.padding_share or 0.0) >= VISIBLE_PADDING:
        text += f", without the {percent(pair.baseline.padding_share or 0.0)} that padding adds to {names[0]}"
        evidence += of_arm(pair.arms[0], "padding_share")
    if baseline.bound == "compute" and baseline.mfu is not None and baseline.mfu <= BEYOND:
        text += f"; {names[0]} is bound by computing, at {percent(baseline.mfu)} of this machine's rate (MFU)"
        evidence += of_arm(pair.arms[0], "limit/bound", "limit/mfu")
    return Sentence(code="arithmetic", text=f"{text}.", evidence=tuple(evidence))


def padding(pair: Pair) -> Sentence | None:
    """What buckets add to the tokens of a step without a past."""
    for arm in reversed(pair.arms):
        record = pair.record.arms[arm]
        if record.bucket is None or record.padding_share is None or record.padding_share < VISIBLE_PADDING:
            continue
        text = (
            f"Padding to multiples of {record.bucket:,} tokens adds {percent(record.padding_share)} to what a step of"
            f" {pair.name(arm)} submits: a smaller bucket adds less and prepares more shapes."
        )
        return Sentence(code="padding", text=text, evidence=of_arm(arm, "padding_share", "bucket"))
    return None


def reading(pair: Pair) -> Sentence | None:
    """How long a step that keeps a past must read for, and how long it takes."""
    arm = pair.arms[1]
    record = pair.candidate
    limit, itl_s = record.limit, record.itl_s.value
    if not keeps_past(record) or limit.weight_bytes is None or limit.kv_bytes is None or limit.mbu is None:
        return None
    memory_s, compute_s = limit.memory_s, limit.compute_s
    if not memory_s or itl_s is None or limit.mbu > BEYOND or (compute_s is not None and compute_s > memory_s):
        return None
    read = limit.weight_bytes + limit.kv_bytes
    text = (
        f"A step of {pair.name(arm)} reads {format_value(read, 'bytes read')} of weights and cache: at this machine's"
        f" {format_value(read / memory_s, 'bytes/s')} that is {format_value(memory_s, 's')}; it takes"
        f" {format_value(itl_s, 's')} (MBU {percent(limit.mbu)})"
    )
    if limit.mbu >= NEAR:
        text += ", near what the machine allows: only fewer bytes or more sequences for each reading would raise it"
    paths = ("limit/weight_bytes", "limit/kv_bytes", "limit/memory_s", "limit/mbu", "itl_s/value")
    return Sentence(code="reading", text=f"{text}.", evidence=of_arm(arm, *paths))


def all_logits(pair: Pair) -> Sentence | None:
    """Logits of every position, of which one is used: measured against an arm without them, else predicted."""
    for arm in pair.arms:
        record = pair.record.arms[arm]
        chosen = "all_logits" in habits_of(record.mode, record.habit)
        built_in = bool((pair.record.model or {}).get("computes_all_logits"))
        if keeps_past(record) or not (chosen or built_in) or _differ_in_habits(pair):
            continue
        found = (_measured_share(pair, arm) if chosen else None) or _predicted_share(pair, arm)
        if found is not None:
            share, evidence = found
            why = "" if chosen else ", since this architecture offers nothing else"
            what = "logits for every position and builds a cache that it drops" if _drops(record) else _EVERY_POSITION
            text = f"The {pair.name(arm)} loop computes {what}{why}: {share}."
            return Sentence(code="all_logits", text=text, evidence=evidence)
    return None


_EVERY_POSITION = "logits for every position"


def _drops(arm: ArmRecord) -> bool:
    return "dropped_cache" in habits_of(arm.mode, arm.habit)


def _differ_in_habits(pair: Pair) -> bool:
    """Whether the habits themselves are what is compared, which has a sentence of its own."""
    if keeps_past(pair.baseline) != keeps_past(pair.candidate):
        return False
    return _habits(pair.baseline) != _habits(pair.candidate)


def _habits(arm: ArmRecord) -> frozenset[str]:
    return habits_of(arm.mode, arm.habit)


def _measured_share(pair: Pair, arm: int) -> tuple[str, tuple[str, ...]] | None:
    """By the run's comparison of this arm with the plain recompute loop, where that one is clearly faster."""
    wanted = {"all_logits", "dropped_cache"}
    if not _habits(pair.record.arms[arm]) <= wanted:
        return None
    for number, each in enumerate(pair.record.comparisons):
        if each.speedup.value is None or arm not in (each.baseline_arm, each.candidate_arm):
            continue
        other = each.candidate_arm if arm == each.baseline_arm else each.baseline_arm
        if not _plain(pair.record.arms[other], pair.record.arms[arm]):
            continue
        faster = each.verdict == ("FASTER" if other == each.candidate_arm else "SLOWER")
        gain = each.speedup.value if other == each.candidate_arm else 1 / each.speedup.value
        if faster:
            return f"{percent(1 - 1 / gain)} of its time", (f"/comparisons/{number}/speedup/value",)
    return None


def _plain(arm: ArmRecord, other: ArmRecord) -> bool:
    same = set(differing(arm, other)) <= {"mode", "habit"}
    return same and arm.mode == "nocache" and arm.habit == "none"


def _predicted_share(pair: Pair, arm: int) -> tuple[str, tuple[str, ...]] | None:
    limit, context = pair.record.arms[arm].limit, pair.mean_context
    if not limit.flops or not limit.head_flops or not context:
        return None
    share = limit.head_flops / limit.flops * (1 - 1 / context)
    if share < VISIBLE_LOGITS:
        return None
    text = f"a predicted {percent(share)} of its arithmetic is for logits that nobody reads"
    return text, of_arm(arm, "limit/head_flops", "limit/flops")


def _times(ratio: float) -> str:
    return f"{fixed(ratio, 0) if ratio >= 10 else fixed(ratio, 2)} times"
