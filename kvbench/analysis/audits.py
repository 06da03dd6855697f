"""What the audits say: equal things measured as equal, fresh prompts no slower, and what watching costs."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.analysis.comparison import speedup, verdict_of
from kvbench.analysis.varying_tokens import arms_with_other_tokens
from kvbench.plan import Plan
from kvbench.records.evidence import Audit
from kvbench.records.samples import RunSamples
from kvbench.records.schema import Check
from kvbench.records.timings import AuditBlock, Block

NO_TIME = {"value": "a visit took no time"}
ADVICE = {
    "timed_tokens": "timing changes what is decoded: the times are of another computation",
    "same_arm_twice": "this machine calls equal things different just now: quieten it, or raise measure.blocks",
    "fresh_prompts": "something is kept from one visit to the next: a repeated prompt is not decoded anew",
}


def audits(plan: Plan, samples: RunSamples) -> tuple[Audit, ...]:
    """Every audit of every arm; none unless they were asked for."""
    if not samples.audits:
        return ()
    return tuple(
        audit
        for arm in range(len(plan.arms))
        for audit in _of_arm(samples, arm, [block for block in samples.audits if block.arm == arm])
    )


def audit_checks(plan: Plan, samples: RunSamples) -> list[Check]:
    """One line per audit that can fail, over all arms."""
    found = audits(plan, samples)
    checks = []
    for name, advice in ADVICE.items():
        judged = [audit for audit in found if audit.name == name]
        if judged:
            passed = all(audit.passed for audit in judged)
            told = [audit for audit in judged if passed or not audit.passed]
            details = "; ".join(f"{plan.arms[audit.arm].label}: {audit.detail}" for audit in told)
            checks.append(Check(name=f"audit_{name}", passed=passed, detail=details, advice="" if passed else advice))
    return checks


def _of_arm(samples: RunSamples, arm: int, blocks: Sequence[AuditBlock]) -> list[Audit]:
    other = arms_with_other_tokens(samples).get(arm, 0)
    found = [
        Audit(
            name="timed_tokens",
            arm=arm,
            passed=not other,
            ratio=None,
            detail=f"{other} timed visits gave other tokens than the untimed pass"
            if other
            else "timed and untimed tokens are the same",
        )
    ]
    twice = speedup(
        [1 / block.decode_s["repeat"] for block in blocks], [1 / block.decode_s["again"] for block in blocks]
    )
    verdict = verdict_of(twice)
    found.append(
        Audit(
            name="same_arm_twice",
            arm=arm,
            passed=verdict in ("SAME", "AMBIGUOUS"),
            ratio=twice.because(NO_TIME),
            detail=f"against itself {_told(twice)}: {verdict}",
        )
    )
    fresh = speedup([1 / _whole(block, "fresh") for block in blocks], [1 / _whole(block, "repeat") for block in blocks])
    verdict = verdict_of(fresh)
    found.append(
        Audit(
            name="fresh_prompts",
            arm=arm,
            passed=verdict not in ("FASTER", "INVALID"),
            ratio=fresh.because(NO_TIME),
            detail=f"a repeated prompt decodes {_told(fresh)} as fast as a fresh one: {verdict}",
        )
    )
    unwatched = [1 / block.decode_s["unwatched"] for block in blocks]
    costs = {"cost_of_memory_poller": speedup(unwatched, [1 / block.decode_s["repeat"] for block in blocks])}
    for lane in ("steps", "trace"):
        pairs = [(_lane(block, arm, "throughput"), _lane(block, arm, lane)) for block in samples.blocks]
        if pairs and all(plain and watched for plain, watched in pairs):
            costs[f"cost_of_{lane}_lane"] = speedup([1 / plain for plain, _ in pairs], [1 / slow for _, slow in pairs])
    for name, ratio in costs.items():
        found.append(
            Audit(
                name=name,
                arm=arm,
                passed=None,
                ratio=ratio.because(NO_TIME),
                detail=f"watched, it decodes {_told(ratio)} as fast",
            )
        )
    return found


def _told(ratio: object) -> str:
    value, low, high = (getattr(ratio, name) for name in ("value", "ci_low", "ci_high"))
    if low is None or high is None:
        return f"{value:.3f}×"
    return f"{value:.3f}× [{low:.3f}, {high:.3f}]"


def _whole(block: AuditBlock, condition: str) -> float:
    return block.ttft_s[condition] + block.decode_s[condition]


def _lane(block: Block, arm: int, lane: str) -> float:
    return sum(visit.decode_s for visit in block.visits if visit.arm == arm and visit.lane == lane)
