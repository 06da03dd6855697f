"""What an arm's first visit paid for, looked at where it cost much more than a later one.

A real decode sees every context length for the first time, so the cost of a first time belongs to the answer; whether
it is paid once per process or once per length, and by which attention, decides what can be done about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvbench.plan import Plan
from kvbench.records.evidence import LengthProbe
from kvbench.records.timings import ColdEvidence, ColdVisit, Visit
from kvbench.running.session import Session
from kvbench.running.visits import visit
from kvbench.statistics import median

NOTEWORTHY = 1.5  # times a warm visit; less is what caches and clocks do
PROBE_STEPS = 4
NO_LENGTH = (
    "not looked into: no context length is left that this model has not seen, a stop token ends every probe, the run is"
    " interrupted, or the mode is not a loop of ours"
)

PREPARED = "the engine compiles or captures every shape at its first visit: compile_s tells what that took"


def evidence(
    plan: Plan, session: Session, cold: ColdVisit, warm: Sequence[Visit], begin: Callable[[], None]
) -> ColdEvidence:
    """Probe the arm's own attention and one other at lengths that neither has seen; see `LengthProbe`.

    `begin` is called when there is something to look into.
    """
    steps = sum(each.steps for each in warm)
    if not steps or cold.itl_s is None:
        return ColdEvidence(cold.arm, (), "there was no warm visit to hold the first one against (measure.warmup)")
    ratio = cold.itl_s / (sum(each.decode_s for each in warm) / steps)
    if ratio < NOTEWORTHY:
        return ColdEvidence(cold.arm, (), f"the first visit's steps took {ratio:.2f} times a warm one's")
    if plan.arms[cold.arm].repeats:
        return ColdEvidence(cold.arm, (), PREPARED)
    begin()
    own = _probe(plan, session, cold.arm, plan.arms[cold.arm].attention)
    if own is None:
        return ColdEvidence(cold.arm, (), NO_LENGTH)
    others = [_probe(plan, session, cold.arm, attention) for attention in session.other_attentions(cold.arm)]
    return ColdEvidence(cold.arm, (own, *(probe for probe in others if probe is not None)))


def _probe(plan: Plan, session: Session, arm: int, attention: str) -> LengthProbe | None:
    batch = session.unseen_batch(arm, PROBE_STEPS)
    if batch is None:
        return None
    before = session.device_state()
    first = _visit(plan, session, arm, batch, attention)
    between = session.device_state()
    second = _visit(plan, session, arm, batch, attention)
    after = session.device_state()
    if first.steps < PROBE_STEPS or second.steps < PROBE_STEPS:
        return None  # a stop token came first
    return LengthProbe(
        attention=attention,
        context_length=session.context_of(batch) + 1,
        steps=PROBE_STEPS,
        first_ttft_s=first.ttft_s,
        second_ttft_s=second.ttft_s,
        first_itl_s=median(first.step_s or ()),
        second_itl_s=median(second.step_s or ()),
        first_allocations=_growth(before[0], between[0]),
        second_allocations=_growth(between[0], after[0]),
        first_driver_bytes=_growth(before[1], between[1]),
        second_driver_bytes=_growth(between[1], after[1]),
    )


def _visit(plan: Plan, session: Session, arm: int, batch: Any, attention: str) -> Visit:
    return visit(plan, session, arm, batch, "steps", None, attention=attention, new_tokens=PROBE_STEPS + 1)


def _growth(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
