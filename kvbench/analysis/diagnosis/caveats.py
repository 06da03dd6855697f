"""What bears on everything else that is said; worth a place only where one is left."""

from __future__ import annotations

from kvbench.analysis.diagnosis.pair import Pair, keeps_past, of_arm
from kvbench.quantities import fixed
from kvbench.records.diagnosis import Sentence


def unlike_engines(pair: Pair) -> Sentence | None:
    """A ratio that is of the engine as well as of the cache, and what it is between arms of one engine."""
    baseline, candidate = pair.baseline, pair.candidate
    if baseline.engine == candidate.engine or keeps_past(baseline) == keeps_past(candidate):
        return None
    text = (
        f"This ratio is of the engine as well as of the cache: {pair.name(pair.arms[0])} against"
        f" {pair.name(pair.arms[1])}"
    )
    evidence = [*of_arm(pair.arms[0], "engine"), *of_arm(pair.arms[1], "engine")]
    like = [found for engine in (candidate.engine, baseline.engine) if (found := _like_with_like(pair, engine))]
    if not like:
        return Sentence(
            code="unlike_engines", text=f"{text}; no two arms compare like with like.", evidence=(*evidence,)
        )
    told = " and ".join(sentence for sentence, _ in like)
    pointers = [pointer for _, each in like for pointer in each]
    text += f". Like with like, {told}."
    return Sentence(code="unlike_engines", text=text, evidence=tuple(dict.fromkeys([*evidence, *pointers])))


def _like_with_like(pair: Pair, engine: str) -> tuple[str, tuple[str, ...]] | None:
    """Two arms of one engine in the modes of this pair, and how fast the one is in units of the other."""
    found = [_arm_of(pair, arm, engine) for arm in pair.arms]
    if None in found:
        return None
    first, second = (place for place in found if place is not None)
    rates = [_against_the_first(pair, place) for place in (first, second)]
    if any(rate is None for rate, _ in rates):
        return None
    (slow, slow_at), (fast, fast_at) = rates
    names = [pair.record.arms[place].label for place in (second, first)]
    ratio = (fast or 0.0) / (slow or 1.0)
    return f"{names[0]} decodes {fixed(ratio, 2)} times as fast as {names[1]}", (*slow_at, *fast_at)


def _arm_of(pair: Pair, arm: int, engine: str) -> int | None:
    """An arm itself, or the first one of its mode and habit that runs on `engine`."""
    own = pair.record.arms[arm]
    if own.engine == engine:
        return arm
    wanted = (own.mode, own.habit, engine)
    alike = (place for place, each in enumerate(pair.record.arms) if (each.mode, each.habit, each.engine) == wanted)
    return next(alike, None)


def _against_the_first(pair: Pair, arm: int) -> tuple[float | None, tuple[str, ...]]:
    """Decode speed of an arm in units of the first arm's; the quotient of two such means is the mean of quotients."""
    if arm == 0:
        return 1.0, ()
    for number, each in enumerate(pair.record.comparisons):
        if (each.baseline_arm, each.candidate_arm) == (0, arm):
            return each.speedup.value, (f"/comparisons/{number}/speedup/value",)
    return None, ()


def random_weights(pair: Pair) -> Sentence | None:
    """Weights that hardly look at their context prove little about a cache."""
    agreement = pair.comparison.agreement
    if (pair.record.model or {}).get("source") != "random" or agreement.verdict is None:
        return None
    text = "The weights are random: the times are those of the shape; the agreement would hardly notice a broken cache."
    return Sentence(code="random_weights", text=text, evidence=("/model/source", pair.at("agreement/verdict")))


def no_ceilings(pair: Pair) -> Sentence | None:
    """How near a step is to what the machine could do is not known yet."""
    reason = "/null_reasons/~1ceilings"
    known = [arm for arm in pair.arms if pair.record.arms[arm].limit.flops]
    if not pair.adds_a_cache or not known:
        return None
    if pair.record.ceilings is not None or "/ceilings" not in pair.record.null_reasons:
        return None
    chosen = {key: pair.record.config.get(key) for key in ("threads", "device")}
    options = "".join(f" --{key} {value}" for key, value in chosen.items() if value not in (None, "auto"))
    text = (
        "How far a step is from what this machine could do is not known:"
        f" `kvbench doctor --ceilings{options}` measures that once."
    )
    return Sentence(code="no_ceilings", text=text, evidence=(reason, *of_arm(known[-1], "limit/flops")))
