"""One block: every arm in random order, every lane, with a look at machine and device on either side."""

from __future__ import annotations

from datetime import UTC, datetime

from kvbench.measuring.environment import OtherCores
from kvbench.plan import Plan
from kvbench.records.timings import Block, limits_between, throttles
from kvbench.running.session import Session
from kvbench.running.visits import visit


def measure_block(plan: Plan, session: Session, index: int, repeats: int | None) -> Block:
    """Measure one block; `repeats` is the index of the throttled block that it stands for."""
    lanes = ["throughput"]
    if plan.config.measure.step_lane:
        lanes.append("steps")
    if plan.config.trace.probabilities:
        lanes.append("trace")
    order = plan.visiting_order(index)
    started_at = datetime.now(UTC).isoformat()
    others = OtherCores(session.clock)
    device_before = session.sensors.reading()
    # The block begins after the readings and ends before them: they cost it nothing.
    began_ns = session.clock.now_ns()
    visits = tuple(
        visit(plan, session, arm, batch, lane, index) for lane in lanes for arm in order for batch in session.batches
    )
    elapsed_s = (session.clock.now_ns() - began_ns) * 1e-9
    device_after = session.sensors.reading()
    return Block(
        index=index,
        order=order,
        started_at=started_at,
        elapsed_s=elapsed_s,
        visits=visits,
        device_before=device_before,
        device_after=device_after,
        throttled=throttles(limits_between(device_before, device_after, elapsed_s)),
        repeats=repeats,
        other_cores=others.busy(),
    )
