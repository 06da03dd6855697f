"""Steps that last as long as the host needs to submit them, how steps grow, and from which context on a cache saves."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Citing, Pair, both, of_arm, two_digits
from kvbench.arm import arm_conflict, device_conflict
from kvbench.capabilities import EAGER, ENGINES, NO_CACHE, OWN_CACHE
from kvbench.records.evidence import Sentence
from kvbench.records.run_record import ArmRecord
from kvbench.records.scaling import BreakEven
from kvbench.text import fixed, format_value

REPEATED_CACHE = "static"  # the kind whose steps all have one shape
REPLACEABLE = (NO_CACHE, "dynamic", REPEATED_CACHE)  # in which keys and values are the same and in the same place
COMPILES = ("compiled", "fused")
ON_DEVICE_REMEDY = "Fewer or larger launches would help: a compiled or captured step, or a larger batch."
ON_HOST_REMEDY = "Fewer or larger operations would help: a compiled step, or a larger batch."


def launching(pair: Pair) -> Sentence | None:
    """Arms whose device waits for its host most of a step; on a CPU, whose operators mostly cost their own calls."""
    bound = [arm for arm in pair.arms if pair.record.arms[arm].limit.bound == "launch"]
    records = [pair.record.arms[arm] for arm in bound]
    if not bound or any(arm.itl_s.value is None or arm.limit.launch_s is None for arm in records):
        return None
    on_device = all(arm.limit.device_busy_s is not None for arm in records)
    if not on_device and any(arm.limit.operations is None for arm in records):
        return None
    cite = pair.citing()
    said = (_on_device if on_device else _on_host)(pair, cite, bound)
    clause = _break_even_clause(pair, cite) if len(bound) == 2 else ""
    return cite.sentence("launch", f"{said}{clause}. {_remedy(pair, cite, bound, on_device=on_device)}")


def break_even(pair: Pair) -> Sentence | None:
    """Where the two laws of growth cross, unless it is part of what is said about launching."""
    place, found = _measured(pair)
    if found is None or not pair.adds_a_cache or _both_launch(pair):
        return None
    cite = pair.citing()
    return cite.sentence("break_even", f"Break-even: {cite(f'/growth/break_evens/{place}/detail', str)}.")


def growth(pair: Pair) -> Sentence | None:
    """The longest length's step over the shortest's, of either arm of a run over several lengths."""
    grown = pair.record.growth
    if grown is None or not pair.adds_a_cache:
        return None
    places = {law.arm: place for place, law in enumerate(grown.laws) if law.growth.value is not None}
    if any(arm not in places for arm in pair.arms):
        return None
    cite = pair.citing()
    first, second = (cite.value(f"/growth/laws/{places[arm]}/growth/value") for arm in pair.arms)
    text = (
        f"From {fixed(grown.shortest, 0)} to {fixed(grown.longest, 0)} tokens a step of {pair.name(pair.arms[0])}"
        f" becomes {fixed(first, 2)} times as long, one of {pair.name(pair.arms[1])} {fixed(second, 2)} times."
    )
    return cite.sentence("growth", text)


def _both_launch(pair: Pair) -> bool:
    return all(pair.record.arms[arm].limit.bound == "launch" for arm in pair.arms)


def _on_device(pair: Pair, cite: Citing, bound: list[int]) -> str:
    steps, busy = [], []
    for arm in bound:
        steps.append(cite.value(of_arm(arm, "itl_s/value")))
        cite.rest_on(of_arm(arm, "limit/launch_s"))
        busy.append(cite.value(of_arm(arm, "limit/device_busy_s")))
    if len(bound) == 1:
        return (
            f"A step of {pair.name(bound[0])} takes {format_value(steps[0], 's')}, and the device works"
            f" {format_value(busy[0], 's')} of it; the rest goes into launching kernels"
        )
    subject = "modes" if pair.baseline.mode != pair.candidate.mode else "arms"
    return (
        f"Steps of both {subject} take {both(steps[0], steps[1], 's')}, and the device works"
        f" {both(busy[0], busy[1], 's')} of them; the rest goes into launching kernels"
    )


def _on_host(pair: Pair, cite: Citing, bound: list[int]) -> str:
    told = []
    for arm in bound:
        step = cite(of_arm(arm, "itl_s/value"), "s")
        calls, operations = cite(of_arm(arm, "limit/launch_s"), "s"), cite(of_arm(arm, "limit/operations"), "count")
        told.append(f"{calls} of a {step} step of {pair.name(arm)} ({operations} operations)")
    return f"Calling operators, whatever they compute, takes an estimated {' and '.join(told)}"


def _break_even_clause(pair: Pair, cite: Citing) -> str:
    """From which context on the cache saves something: measured by growth, else estimated, else left out."""
    if not pair.adds_a_cache:
        return ""
    place, found = _measured(pair)
    if found is not None and found.context_length is not None:
        tokens = cite(f"/growth/break_evens/{place}/context_length", two_digits)
    elif found is not None or pair.comparison.verdict == "FASTER" or (estimated := _estimated(pair, cite)) is None:
        return ""
    else:
        tokens = two_digits(estimated)
    return f", which below about {tokens} tokens of context hides what the cache saves"


def _estimated(pair: Pair, cite: Citing) -> float | None:
    """Tokens at which recompute's device time reaches its launches, if it grows in proportion to them.

    Below the context at which computing takes as long as reading the weights it does not grow, where that is known.
    Kernels become no less efficient with size, so the true place is rather higher: below this one it holds.
    """
    arm, limit, context = pair.arms[0], pair.baseline.limit, pair.mean_context
    if not limit.device_busy_s or context is None:
        return None
    grounds = [of_arm(arm, "limit/device_busy_s"), "/workload/prompt_tokens", "/workload/new_tokens"]
    if limit.memory_s and limit.compute_s and limit.compute_s < limit.memory_s:
        context *= limit.memory_s / limit.compute_s
        grounds += [of_arm(arm, "limit/memory_s"), of_arm(arm, "limit/compute_s")]
    tokens = context * _itl(pair.baseline) / limit.device_busy_s
    longest = (pair.record.model or {}).get("max_context")
    if longest is not None and tokens > longest:
        return None
    cite.rest_on(*grounds)
    return tokens


def _measured(pair: Pair) -> tuple[int, BreakEven | None]:
    found = pair.record.growth.break_evens if pair.record.growth else ()
    candidate = pair.comparison.candidate_arm
    return next(((place, each) for place, each in enumerate(found) if each.candidate_arm == candidate), (0, None))


def _remedy(pair: Pair, cite: Citing, bound: list[int], *, on_device: bool) -> str:
    """An engine that this run has tried already, with its time; else the keys of one that can run; else plain words."""
    if (arm := _tried(pair, bound)) is not None:
        engine, step = cite(of_arm(arm, "engine"), str), cite(of_arm(arm, "itl_s/value"), "s")
        return f"In this run {pair.record.arms[arm].mode} with engine={engine} takes {step} a step."
    waiting = {EAGER, *(pair.record.arms[arm].engine for arm in bound)}
    for engine in ENGINES:
        if engine not in waiting and (keys := _keys(pair, bound, engine)) is not None:
            return f"Try {keys}."
    return ON_DEVICE_REMEDY if on_device else ON_HOST_REMEDY


def _tried(pair: Pair, bound: list[int]) -> int | None:
    """The fastest arm of another engine in a mode that waits here."""
    modes = {pair.record.arms[arm].mode for arm in bound}
    others = [
        place
        for place, arm in enumerate(pair.record.arms)
        if arm.mode in modes and arm.engine != EAGER and place not in bound and arm.itl_s.value is not None
    ]
    return min(others, key=lambda place: _itl(pair.record.arms[place]), default=None)


def _keys(pair: Pair, bound: list[int], engine: str) -> str | None:
    """What to write so that these arms run with an engine, or None where they cannot.

    The shorthand keys are every arm's, so that they must suit all of them; a run of listed arms is told new ones.
    """
    record = pair.record
    if engine in COMPILES and record.environment.get("compiler", "") is None:
        return None
    listed = record.config.get("arms") is not None
    waiting = [arm for place, arm in enumerate(record.arms) if place in bound or not listed]
    wanted = [_with_engine(arm, engine) for arm in waiting]
    device_type = str(record.environment.get("device", "")).partition(":")[0]
    if any(arm.cache == OWN_CACHE for arm in record.arms) or any(arm.cache not in REPLACEABLE for arm in waiting):
        return None
    if any(arm_conflict(arm) is not None or device_conflict(arm, device_type) is not None for arm in wanted):
        return None
    if listed:
        told = list(dict.fromkeys(map(_written, wanted)))
        return f"the arm{'s' if len(told) > 1 else ''} {' and '.join(told)}"
    return f"engine={engine}" + (f" cache={REPEATED_CACHE}" if any(arm.keeps_past for arm in wanted) else "")


def _with_engine(arm: ArmRecord, engine: str) -> ArmRecord:
    cache = REPEATED_CACHE if arm.keeps_past else arm.cache
    return arm.model_copy(update={"engine": engine, "cache": cache})


def _written(arm: ArmRecord) -> str:
    """An arm as it stands in a list of arms."""
    parts = [("mode", arm.mode), ("engine", arm.engine)]
    parts += [("cache", arm.cache)] if arm.keeps_past else []
    parts += [("attention", arm.attention)] if arm.attention != "auto" else []
    return "{" + ", ".join(f"{name}: {value}" for name, value in parts) + "}"


def _itl(arm: ArmRecord) -> float:
    return arm.itl_s.value or 0.0
