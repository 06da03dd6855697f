"""How far a comparison can be trusted: why it is no result, what bears on all else that is said, what is not known."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import stdtrit

from kvbench.analysis.comparison import LEAST_BLOCKS
from kvbench.analysis.diagnosis.pair import Citing, Pair, of_arm, percent
from kvbench.analysis.host_speed import HostChange, moved, moved_text, unlike_kept, unlike_text
from kvbench.options import RELEVANT_WITHIN_A_RUN
from kvbench.records.evidence import Sentence
from kvbench.records.run_record import Check
from kvbench.statistics import LEVEL
from kvbench.text import fixed

ENOUGH = "measure.blocks=8"
MOST_BLOCKS = 200  # beyond that a quieter machine is the better advice


# Why it is no result.


def invalidity(pair: Pair) -> list[Sentence]:
    """Why it is no result: a sentence for every check that failed, in the checks' order; none for a run that ended
    before them. Nothing here, or beside it, explains a speed-up that was not validly measured.
    """
    found: dict[str, Sentence] = {}
    for number, check in enumerate(pair.record.checks):
        if not check.passed:
            special = SPECIAL.get(check.name)
            sentence = (special(pair) if special else None) or _as_checked(pair, check, number)
            found.setdefault(sentence.code, sentence)
    return list(found.values())


def unused_cache(pair: Pair) -> Sentence | None:
    """An arm that keeps a past and submits everything again; else how it broke its promise."""
    cite = pair.citing()
    for arm in reversed(pair.arms):
        record = pair.record.arms[arm]
        if record.keeps_past and record.proof.resubmitted_steps:
            again, steps = cite.value(of_arm(arm, "proof/resubmitted_steps")), _steps(pair, cite, arm)
            where = "at every step" if again == steps else f"at {again:,} of {steps:,} steps"
            text = f"The {pair.name(arm)} loop submitted all tokens again {where}: its cache is not used."
            return cite.sentence("unused_cache", text)
    for arm in reversed(pair.arms):
        proof = pair.record.arms[arm].proof
        if proof.violations:
            first = f" (first, {proof.first_violation})" if proof.first_violation else ""
            text = (
                f"{cite(of_arm(arm, 'proof/violations'), 'count')} of"
                f" {cite(of_arm(arm, 'proof/steps_checked'), 'count')} passes of {pair.name(arm)} submitted something"
                f" else than the mode promises{first}: its times are of another computation."
            )
            return cite.sentence("broken_promise", text)
    return None


def other_output(pair: Pair) -> Sentence | None:
    """A candidate whose logits differ by more than rounding."""
    agreement = pair.comparison.agreement
    if agreement.verdict != "MISMATCH":
        return None
    baseline, candidate = (pair.name(arm) for arm in pair.arms)
    apart, allowed = agreement.max_rel_logit_diff, agreement.allowed_rel
    cite = pair.citing()
    cite.rest_on(pair.at("agreement/verdict"))
    text = f"{candidate} does not compute what {baseline} computes"
    if apart is not None and allowed is not None and apart > allowed:
        text += (
            f": their logits are {cite(pair.at('agreement/max_rel_logit_diff'), _scientific)} apart, relative to the"
            f" largest, and rounding explains {cite(pair.at('agreement/allowed_rel'), _scientific)}"
        )
    elif agreement.first_divergence is not None and agreement.top2_margin is not None:
        text += (
            f": free runs part at new token {cite(pair.at('agreement/first_divergence'), 'count')}, where the two best"
            f" logits are {cite(pair.at('agreement/top2_margin'), _scientific)} apart, too far for rounding"
        )
    text += ", so its speed buys another output."
    if agreement.cause:
        text += f" {cite(pair.at('agreement/cause'), str)}."
    return cite.sentence("other_output", text)


def throttled(pair: Pair) -> Sentence | None:
    """A device that slowed itself down for too much of the run."""
    during = pair.record.device_during
    if during is None or not during.throttled_blocks:
        return None
    cite = pair.citing()
    causes = ", ".join(during.limited_blocks)
    text = (
        f"The device slowed itself down in {cite('/device_during/throttled_blocks', len)} blocks"
        f"{f' ({causes})' if causes else ''}: their times are not its own; cool it, or let it rest, and measure again."
    )
    return cite.sentence("throttled", text)


def few_blocks(pair: Pair) -> Sentence | None:
    """Fewer blocks than an interval needs."""
    cite = pair.citing()
    count = cite.value(pair.at("speedup/n_blocks"))
    text = (
        f"An interval over {count} {'block' if count == 1 else 'blocks'} does not cover what it says: {ENOUGH} would."
    )
    return cite.sentence("few_blocks", text)


def _as_checked(pair: Pair, check: Check, number: int) -> Sentence:
    cite = pair.citing()
    said = cite(f"/checks/{number}/detail", str)
    said = said[:1].upper() + said[1:]
    return cite.sentence(f"check_{check.name}", f"{said}: {check.advice}." if check.advice else f"{said}.")


def _steps(pair: Pair, cite: Citing, arm: int) -> int:
    """Decode steps of the untimed pass: those of the longest sequence of every batch."""
    rows = cite.value(of_arm(arm, "tokens"))
    size = pair.record.workload.batch_size if pair.record.workload else 1
    return sum(max(map(len, rows[start : start + size])) - 1 for start in range(0, len(rows), size))


SPECIAL: dict[str, Callable[[Pair], Sentence | None]] = {
    "mode_proof": unused_cache,
    "agreement": other_output,
    "throttling": throttled,
    "blocks": few_blocks,
}


# What bears on all else that is said.


def ambiguous(pair: Pair) -> Sentence | None:
    """An interval that says neither, what makes it wide, and about how many blocks would settle it."""
    ratio = pair.comparison.speedup
    unknown = ratio.ci_low is None or ratio.ci_high is None or not ratio.value
    if pair.comparison.verdict != "AMBIGUOUS" or unknown or ratio.n_blocks < LEAST_BLOCKS:
        return None
    cite = pair.citing()
    value, low, high, n = (
        cite.value(pair.at(f"speedup/{part}")) for part in ("value", "ci_low", "ci_high", "n_blocks")
    )
    half = math.log(high / low) / 2
    spread = half * math.sqrt(n) / _quantile(n)
    text = (
        f"The interval spans {fixed(low, 3)} to {fixed(high, 3)} because the ratio varies by {percent(spread)} from"
        " block to block"
    )
    needed = _blocks_needed(spread, abs(abs(math.log(value)) - math.log1p(RELEVANT_WITHIN_A_RUN)))
    if needed is None:
        text += "; more blocks alone will hardly give a verdict: quieten the machine, or decode more tokens a block."
    else:
        text += f"; if the estimate stays where it is, about {needed} blocks give a verdict (measure.blocks={needed})."
    return cite.sentence("ambiguous", text)


def partly_throttled(pair: Pair) -> Sentence | None:
    """A few throttled blocks that still count."""
    during = pair.record.device_during
    standing = set(during.throttled_blocks) - set(during.repeated_blocks) if during else set()
    if not standing:
        return None
    cite = pair.citing()
    cite.rest_on("/device_during/throttled_blocks")
    text = (
        f"{len(standing)} of the blocks that count {'was' if len(standing) == 1 else 'were'} throttled by the device,"
        " in which both modes are slower than it can be; the ratio compares within blocks."
    )
    return cite.sentence("throttled", text)


def _blocks_needed(spread: float, target: float) -> int | None:
    """The fewest blocks whose interval is no wider than `target` to either side; None beyond `MOST_BLOCKS`."""
    for n in range(LEAST_BLOCKS, MOST_BLOCKS + 1):
        if _quantile(n) * spread / math.sqrt(n) <= target:
            return n
    return None


def _quantile(n: int) -> float:
    return float(stdtrit(n - 1, 0.5 + LEVEL / 2))


def host_speed(pair: Pair) -> Sentence | None:
    """A host that changed its speed, in the place of the causes that it alone could explain."""
    change = explaining(pair)
    if change is None:
        return None
    cite = pair.citing()
    cite.rest_on(*change.pointers)
    told = (moved_text if change.pointers[0].startswith("/host_checks") else unlike_text)(change)
    consequence = "That alone may explain slow steps, so no cause is named that rests on launches or on reading."
    return cite.sentence("host_speed", f"{told[0].upper()}{told[1:]}. {consequence}")


def explaining(pair: Pair) -> HostChange | None:
    """A host that moved during the run, or is slower than it was when this machine's limits were measured."""
    checks = pair.record.host_checks
    if (change := moved(checks)) is not None:
        return change
    kept = unlike_kept(checks, pair.record.ceilings)
    return kept if kept is not None and kept.ratio > 1 else None


def unlike_engines(pair: Pair) -> Sentence | None:
    """A ratio that is of the engine as well as of the cache, and what it is between arms of one engine."""
    baseline, candidate = pair.baseline, pair.candidate
    if baseline.engine == candidate.engine or baseline.keeps_past == candidate.keeps_past:
        return None
    cite = pair.citing()
    cite.rest_on(*(of_arm(arm, "engine") for arm in pair.arms))
    text = (
        f"This ratio is of the engine as well as of the cache: {pair.name(pair.arms[0])} against"
        f" {pair.name(pair.arms[1])}"
    )
    like = [_like_with_like(pair, cite, engine) for engine in (candidate.engine, baseline.engine)]
    told = " and ".join(filter(None, like))
    text += f". Like with like, {told}." if told else "; no two arms compare like with like."
    return cite.sentence("unlike_engines", text)


def _like_with_like(pair: Pair, cite: Citing, engine: str) -> str:
    """How fast one of two arms of one engine in the modes of this pair is beside the other; empty where not known."""
    slow, fast = (_arm_of(pair, arm, engine) for arm in pair.arms)
    if slow is None or fast is None or None in (pointers := [_against_the_first(pair, arm) for arm in (slow, fast)]):
        return ""
    # The quotient of two such means is the mean of quotients; of the first arm against itself it is 1.
    rates = {pointer: cite.value(pointer) if pointer else 1.0 for pointer in dict.fromkeys(pointers)}
    names = [pair.record.arms[arm].label for arm in (fast, slow)]
    return (
        f"{names[0]} decodes {fixed(rates[pointers[1]] / (rates[pointers[0]] or 1.0), 2)} times as fast as {names[1]}"
    )


def _arm_of(pair: Pair, arm: int, engine: str) -> int | None:
    """An arm itself, or the first one of its mode and habit that runs on `engine`."""
    own = pair.record.arms[arm]
    if own.engine == engine:
        return arm
    wanted = (own.mode, own.habit, engine)
    alike = (place for place, each in enumerate(pair.record.arms) if (each.mode, each.habit, each.engine) == wanted)
    return next(alike, None)


def _against_the_first(pair: Pair, arm: int) -> str | None:
    """Where the decode speed of an arm in units of the first arm's is known; empty of the first arm itself."""
    if arm == 0:
        return ""
    for number, each in enumerate(pair.record.comparisons):
        if (each.baseline_arm, each.candidate_arm) == (0, arm):
            return None if each.speedup.value is None else f"/comparisons/{number}/speedup/value"
    return None


# What is not known.


def random_weights(pair: Pair) -> Sentence | None:
    """Weights that hardly look at their context prove little about a cache."""
    if (pair.record.model or {}).get("source") != "random" or pair.comparison.agreement.verdict is None:
        return None
    cite = pair.citing()
    cite.rest_on("/model/source", pair.at("agreement/verdict"))
    text = "The weights are random: the times are those of the shape; the agreement would hardly notice a broken cache."
    return cite.sentence("random_weights", text)


def no_ceilings(pair: Pair) -> Sentence | None:
    """How near a step is to what the machine could do is not known yet."""
    known = [arm for arm in pair.arms if pair.record.arms[arm].limit.flops]
    if not pair.adds_a_cache or not known:
        return None
    if pair.record.ceilings is not None or "/ceilings" not in pair.record.null_reasons:
        return None
    cite = pair.citing()
    cite.rest_on("/null_reasons/~1ceilings", of_arm(known[-1], "limit/flops"))
    chosen = {key: pair.record.config.get(key) for key in ("threads", "device")}
    options = "".join(f" --{key} {value}" for key, value in chosen.items() if value not in (None, "auto"))
    text = (
        "How far a step is from what this machine could do is not known:"
        f" `kvbench doctor --ceilings{options}` measures that once."
    )
    return cite.sentence("no_ceilings", text)


def _scientific(value: float) -> str:
    return f"{value:.1e}"
