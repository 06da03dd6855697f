"""Whether a sweep held still: its first point against the same point measured again at its end."""

from __future__ import annotations

from kvbench.analysis.gate import RELEVANCE
from kvbench.analysis.host_speed import host_change_since
from kvbench.quantities import fixed, format_value
from kvbench.records.host_checks import FIGURES
from kvbench.records.part import Estimate
from kvbench.records.schema import RunRecord, RunWarning
from kvbench.records.sweep_audit import ArmRepeated, SweepAudit, Verdict

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


def _verdict(low: float | None, high: float | None) -> Verdict:
    """As `compare` judges across sessions: the whole interval lies beyond the band, or inside it."""
    if low is None or high is None:
        return "AMBIGUOUS"
    if low > 1 + RELEVANCE:
        return "SLOWER"
    if high < 1 / (1 + RELEVANCE):
        return "FASTER"
    return "SAME" if low >= 1 / (1 + RELEVANCE) and high <= 1 + RELEVANCE else "AMBIGUOUS"


def _detail(again: RunRecord, first: RunRecord, arms: tuple[ArmRepeated, ...], *, held_still: bool | None) -> str:
    if held_still:
        told = "; ".join(_told(again, first, arm) for arm in arms)
        return f"the sweep held still: its first point, measured again at the end, is within {RELEVANCE:.0%}: {told}"
    if held_still is None:
        told = "; ".join(_told(again, first, arm) for arm in arms if arm.verdict == "AMBIGUOUS")
        unknown = "whether the sweep held still cannot be told: increase measure.blocks, six give an interval"
        return f"{unknown} ({told})" if told else unknown
    told = "; ".join(_told(again, first, arm) for arm in arms if arm.verdict in ("FASTER", "SLOWER"))
    return f"the sweep did not hold still: {told}{_host(again, first)}: {CONSEQUENCE}"


def _told(again: RunRecord, first: RunRecord, arm: ArmRepeated) -> str:
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
    return f", and the host changed as well: a {FIGURES[change.name]} took {before} and {after} ({change.percent})"
