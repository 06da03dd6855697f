"""Why a comparison is not a result. Nothing here, or beside it, explains a speed-up that was not validly measured."""

from __future__ import annotations

from collections.abc import Callable

from kvbench.analysis.diagnosis.pair import Pair, keeps_past, of_arm
from kvbench.records.evidence import Sentence
from kvbench.records.schema import Check

LEAST = "measure.blocks=8"


def invalidity(pair: Pair) -> list[Sentence]:
    """A sentence for every check that failed, in the checks' order; none for a run that ended before them."""
    found: dict[str, Sentence] = {}
    for number, check in enumerate(pair.record.checks):
        if not check.passed:
            sentence = SPECIAL.get(check.name, _nothing)(pair) or _as_checked(check, number)
            found.setdefault(sentence.code, sentence)
    return list(found.values())


def unused_cache(pair: Pair) -> Sentence | None:
    """An arm that keeps a past and submits everything again; else how it broke its promise."""
    for arm in reversed(pair.arms):
        record = pair.record.arms[arm]
        proof, steps = record.proof, _steps(pair, arm)
        again = proof.resubmitted_steps or 0
        if keeps_past(record) and again:
            where = "at every step" if again == steps else f"at {again:,} of {steps:,} steps"
            text = f"The {pair.name(arm)} loop submitted all tokens again {where}: its cache is not used."
            return Sentence(code="unused_cache", text=text, evidence=of_arm(arm, "proof/resubmitted_steps", "tokens"))
    for arm in reversed(pair.arms):
        proof = pair.record.arms[arm].proof
        if proof.violations:
            first = f" (first, {proof.first_violation})" if proof.first_violation else ""
            text = (
                f"{proof.violations:,} of {proof.steps_checked:,} passes of {pair.name(arm)} submitted something else"
                f" than the mode promises{first}: its times are of another computation."
            )
            paths = ("proof/violations", "proof/steps_checked")
            return Sentence(code="broken_promise", text=text, evidence=of_arm(arm, *paths))
    return None


def other_output(pair: Pair) -> Sentence | None:
    """A candidate whose logits differ by more than rounding."""
    agreement = pair.comparison.agreement
    if agreement.verdict != "MISMATCH":
        return None
    baseline, candidate = (pair.name(arm) for arm in pair.arms)
    apart, allowed = agreement.max_rel_logit_diff, agreement.allowed_rel
    text = f"{candidate} does not compute what {baseline} computes"
    evidence = [pair.at("agreement/verdict")]
    if apart is not None and allowed is not None and apart > allowed:
        text += f": their logits are {apart:.1e} apart, relative to the largest, and rounding explains {allowed:.1e}"
        evidence += [pair.at("agreement/max_rel_logit_diff"), pair.at("agreement/allowed_rel")]
    elif agreement.first_divergence is not None and agreement.top2_margin is not None:
        text += (
            f": free runs part at new token {agreement.first_divergence:,}, where the two best logits are"
            f" {agreement.top2_margin:.1e} apart, too far for rounding"
        )
        evidence += [pair.at("agreement/first_divergence"), pair.at("agreement/top2_margin")]
    return Sentence(code="other_output", text=f"{text}, so its speed buys another output.", evidence=tuple(evidence))


def throttled(pair: Pair) -> Sentence | None:
    """A device that slowed itself down for too much of the run."""
    during = pair.record.device_during
    if during is None or not during.throttled_blocks:
        return None
    causes = ", ".join(during.limited_blocks)
    text = (
        f"The device slowed itself down in {len(during.throttled_blocks)} blocks{f' ({causes})' if causes else ''}:"
        " their times are not its own; cool it, or let it rest, and measure again."
    )
    return Sentence(code="throttled", text=text, evidence=("/device_during/throttled_blocks",))


def few_blocks(pair: Pair) -> Sentence | None:
    """Fewer blocks than an interval needs."""
    count = pair.comparison.speedup.n_blocks
    text = f"An interval over {count} {'block' if count == 1 else 'blocks'} does not cover what it says: {LEAST} would."
    return Sentence(code="few_blocks", text=text, evidence=(pair.at("speedup/n_blocks"),))


def _nothing(_pair: Pair) -> Sentence | None:
    return None


def _as_checked(check: Check, number: int) -> Sentence:
    said = check.detail[:1].upper() + check.detail[1:]
    text = f"{said}: {check.advice}." if check.advice else f"{said}."
    return Sentence(code=f"check_{check.name}", text=text, evidence=(f"/checks/{number}/detail",))


def _steps(pair: Pair, arm: int) -> int:
    """Decode steps of the untimed pass: those of the longest sequence of every batch."""
    rows = pair.record.arms[arm].tokens
    size = pair.record.workload.batch_size if pair.record.workload else 1
    return sum(max(map(len, rows[start : start + size])) - 1 for start in range(0, len(rows), size))


SPECIAL: dict[str, Callable[[Pair], Sentence | None]] = {
    "mode_proof": unused_cache,
    "agreement": other_output,
    "throttling": throttled,
    "blocks": few_blocks,
}
