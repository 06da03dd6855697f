"""What the audits say: equal things measured as equal within a run, and a sweep whose first point is measured again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kvbench.analysis.comparison import Place, place, speedup, verdict_of
from kvbench.analysis.host_speed import host_change_since
from kvbench.options import RELEVANT_ACROSS_RUNS
from kvbench.plan import Plan
from kvbench.records.evidence import (
    HOST_FIGURES,
    ArmRepeated,
    Audit,
    RunWarning,
    SweepAudit,
    SweepVerdict,
)
from kvbench.records.part import Estimate, Figure
from kvbench.records.run_record import Check, RunRecord
from kvbench.records.samples import RunSamples
from kvbench.records.timings import AuditBlock, Block
from kvbench.text import fixed, format_value

# What the audits of one run say, and which of them can fail.


NO_TIME = {"value": "a visit took no time"}
NOTHING_TIMED = "no decode step was timed"
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
        for audit in _of_arm(plan, samples, arm, [block for block in samples.audits if block.arm == arm])
    )


def audit_checks(plan: Plan, samples: RunSamples) -> list[Check]:
    """One line per audit that can fail, over all arms."""
    found = audits(plan, samples)
    checks = []
    for name, advice in ADVICE.items():
        judged = [audit for audit in found if audit.name == name and audit.passed is not None]
        if judged:
            passed = all(audit.passed for audit in judged)
            told = [audit for audit in judged if passed or not audit.passed]
            details = "; ".join(f"{plan.arms[audit.arm].label}: {audit.detail}" for audit in told)
            checks.append(Check(name=f"audit_{name}", passed=passed, detail=details, advice="" if passed else advice))
    return checks


def _of_arm(plan: Plan, samples: RunSamples, arm: int, blocks: Sequence[AuditBlock]) -> list[Audit]:
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
    decoding = {name: [_rate(block.decode_s[name]) for block in blocks] for name in ("repeat", "again", "unwatched")}
    twice = speedup(decoding["repeat"], decoding["again"])
    verdict = verdict_of(twice)
    found.append(
        Audit(
            name="same_arm_twice",
            arm=arm,
            passed=None if twice.value is None else verdict in ("SAME", "AMBIGUOUS"),
            ratio=twice.because(NO_TIME),
            detail=NOTHING_TIMED if twice.value is None else f"against itself {_told(twice)}: {verdict}",
        )
    )
    found.append(_fresh_prompts(plan, arm, blocks))
    costs = {"cost_of_memory_poller": speedup(decoding["unwatched"], decoding["repeat"])}
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
                detail=NOTHING_TIMED if ratio.value is None else f"watched, it decodes {_told(ratio)} as fast",
            )
        )
    return found


def _fresh_prompts(plan: Plan, arm: int, blocks: Sequence[AuditBlock]) -> Audit:
    """A repeated prompt beside a fresh one, prefill included; not judged where they may end after other tokens."""
    fresh, repeated = ([_rate(_whole(block, name)) for block in blocks] for name in ("fresh", "repeat"))
    ratio = speedup(fresh, repeated)
    verdict = verdict_of(ratio)
    told = NOTHING_TIMED if ratio.value is None else f"a repeated prompt decodes {_told(ratio)} as fast as a fresh one"
    if plan.stop_rule != "ignore":
        detail = f"{told}, not judged: with workload.stop a fresh prompt may end after another number of tokens"
        return Audit(name="fresh_prompts", arm=arm, passed=None, ratio=ratio.because(NO_TIME), detail=detail)
    return Audit(
        name="fresh_prompts",
        arm=arm,
        passed=None if ratio.value is None else verdict not in ("FASTER", "INVALID"),
        ratio=ratio.because(NO_TIME),
        detail=told if ratio.value is None else f"{told}: {verdict}",
    )


def _rate(seconds: float) -> float | None:
    return 1 / seconds if seconds > 0 else None


def _told(ratio: Figure) -> str:
    if ratio.ci_low is None or ratio.ci_high is None:
        return f"{ratio.value:.3f}×"
    return f"{ratio.value:.3f}× [{ratio.ci_low:.3f}, {ratio.ci_high:.3f}]"


def _whole(block: AuditBlock, condition: str) -> float:
    return block.ttft_s[condition] + block.decode_s[condition]


def _lane(block: Block, arm: int, lane: str) -> float:
    return sum(visit.decode_s for visit in block.visits if visit.arm == arm and visit.lane == lane)


def arms_with_other_tokens(samples: RunSamples) -> dict[int, int]:
    """Arm to the number of its timed visits whose tokens differ from those of its untimed pass."""
    expected = {untimed.arm: untimed.tokens_sha256 for untimed in samples.untimed}
    differing: Counter[int] = Counter(
        visit.arm
        for block in samples.all_blocks
        for visit in block.visits
        if visit.arm in expected and expected[visit.arm][visit.batch] != visit.tokens_sha256
    )
    return dict(differing)


# Whether a sweep held still: its first point, measured again at its end.


OF_TIMES: dict[Place, SweepVerdict] = {"above": "SLOWER", "below": "FASTER", "inside": "SAME", "across": "AMBIGUOUS"}
CONSEQUENCE = "times of its points cannot be compared with one another, speed-ups within a point can"


def audited(again: RunRecord, first: RunRecord) -> RunRecord:
    """The repeated point's record with what it says about its sweep.

    A sweep that did not hold still gets a warning and no more: two runs some time apart do not tell a host that became
    slower, which is a warning everywhere, from a fault of ours; inside each run the blocks are paired.
    """
    audit = sweep_audit(again, first)
    warned = (RunWarning(code="sweep_moved", detail=audit.detail),) if audit.held_still is False else ()
    return again.model_copy(update={"sweep_audit": audit, "warnings": (*again.warnings, *warned)})


def sweep_audit(again: RunRecord, first: RunRecord) -> SweepAudit:
    """Every arm's ITL at the end over that at the beginning, and what follows."""
    arms = tuple(
        _repeated(number, before.itl_s, after.itl_s)
        for number, (before, after) in enumerate(zip(first.arms, again.arms, strict=False))
    )
    verdicts = {arm.verdict for arm in arms}
    moved = bool(verdicts & {"FASTER", "SLOWER"})
    held_still = False if moved else (True if verdicts == {"SAME"} else None)
    detail = _detail(again, first, arms, held_still=held_still)
    return SweepAudit(first_run_id=first.run_id, held_still=held_still, detail=detail, arms=arms)


def _repeated(arm: int, before: Estimate, after: Estimate) -> ArmRepeated:
    ratio = after.value / before.value if before.value and after.value else None
    low = high = None
    if before.ci_low and before.ci_high and after.ci_low and after.ci_high:
        low, high = after.ci_low / before.ci_high, after.ci_high / before.ci_low
    return ArmRepeated(arm=arm, itl_ratio=ratio, ci_low=low, ci_high=high, verdict=_verdict(low, high))


def _verdict(low: float | None, high: float | None) -> SweepVerdict:
    """As `compare` judges across sessions: the whole interval lies beyond the band, or inside it."""
    if low is None or high is None:
        return "AMBIGUOUS"
    return OF_TIMES[place(low, high, RELEVANT_ACROSS_RUNS)]


def _detail(again: RunRecord, first: RunRecord, arms: tuple[ArmRepeated, ...], *, held_still: bool | None) -> str:
    if held_still:
        told = "; ".join(_sweep_told(again, first, arm) for arm in arms)
        band = f"{RELEVANT_ACROSS_RUNS:.0%}"
        return f"the sweep held still: its first point, measured again at the end, is within {band}: {told}"
    if held_still is None:
        told = "; ".join(_sweep_told(again, first, arm) for arm in arms if arm.verdict == "AMBIGUOUS")
        unknown = "whether the sweep held still cannot be told: increase measure.blocks, six give an interval"
        return f"{unknown} ({told})" if told else unknown
    told = "; ".join(_sweep_told(again, first, arm) for arm in arms if arm.verdict in ("FASTER", "SLOWER"))
    return f"the sweep did not hold still: {told}{_host(again, first)}: {CONSEQUENCE}"


def _sweep_told(again: RunRecord, first: RunRecord, arm: ArmRepeated) -> str:
    before, after = (format_value(record.arms[arm.arm].itl_s.value, "s") for record in (first, again))
    text = f"a decode step of {again.arms[arm.arm].label} took {before} at the beginning and {after} at the end"
    if arm.itl_ratio is None:
        return text
    known = arm.ci_low is not None and arm.ci_high is not None
    interval = f" [{fixed(arm.ci_low or 0.0, 2)}, {fixed(arm.ci_high or 0.0, 2)}]" if known else ""
    return f"{text} ({fixed(arm.itl_ratio, 2)} times{interval})"


def _host(again: RunRecord, first: RunRecord) -> str:
    """Whether the host changed as well, by its own checks."""
    change = host_change_since(first.host_checks, again.host_checks)
    if change is None:
        return ", and the host's own checks did not change"
    before, after = format_value(change.before_s, "s"), format_value(change.after_s, "s")
    return f", and the host changed as well: a {HOST_FIGURES[change.name]} took {before} and {after} ({change.percent})"
