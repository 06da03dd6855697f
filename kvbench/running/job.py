"""One measurement from the first visit to the last block: the protocol, as a list of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from kvbench.measuring.lanes import Stopwatch
from kvbench.measuring.samples import Block, ColdVisit, Sample, Stopped, UntimedPass, Visit, tokens_sha256
from kvbench.measuring.stopping import stopping_rule
from kvbench.plan import Plan
from kvbench.running.session import Session


@dataclass(frozen=True)
class Progress:
    """How far a phase is; `total` is None when the stopping rule decides."""

    phase: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Text:
    """A piece of the untimed text: `kind` is prompt, piece or end."""

    kind: str
    text: str


Emit = Callable[[Sample | Progress | Text], None]


def run_job(plan: Plan, session: Session, emit: Emit) -> None:
    """Measure every arm of the plan; everything that is learnt leaves through `emit` as soon as it is whole."""
    emit(session.prepared)
    _cold_visits(plan, session, emit)
    if plan.config.stream.interval:
        session.show_text(lambda kind, text: emit(Text(kind, text)))
    emit(session.shapes())
    passes = _untimed_passes(plan, session, emit)
    _agreements(plan, session, passes, emit)
    _traced_passes(plan, session, emit)
    _warm_up(plan, session, emit)
    _blocks(plan, session, emit)


def _cold_visits(plan: Plan, session: Session, emit: Emit) -> None:
    for arm in range(len(plan.arms)):
        emit(Progress("first visit", arm, len(plan.arms)))
        visits = [visit(plan, session, arm, batch, "steps", None) for batch in range(len(session.batches))]
        steps = sum(visit.steps for visit in visits)
        emit(
            ColdVisit(
                arm=arm,
                ttft_s=visits[0].ttft_s,
                itl_s=sum(visit.decode_s for visit in visits) / steps if steps else None,
                step_s=tuple(seconds for visit in visits for seconds in visit.step_s or ()),
            )
        )


def _untimed_passes(plan: Plan, session: Session, emit: Emit) -> list[UntimedPass]:
    passes = []
    for arm in range(len(plan.arms)):
        emit(Progress("memory and proof", arm, len(plan.arms)))
        passes.append(session.untimed(arm))
        emit(passes[-1])
    return passes


def _agreements(plan: Plan, session: Session, passes: list[UntimedPass], emit: Emit) -> None:
    if plan.config.check.agreement == "none":
        return
    for candidate in range(1, len(plan.arms)):
        emit(Progress("agreement", candidate - 1, len(plan.arms) - 1))
        emit(session.agreement(candidate, passes))


def _traced_passes(plan: Plan, session: Session, emit: Emit) -> None:
    if not plan.config.trace.probabilities:
        return
    for arm in range(len(plan.arms)):
        emit(Progress("token confidence", arm, len(plan.arms)))
        emit(session.traced(arm))


def _warm_up(plan: Plan, session: Session, emit: Emit) -> None:
    count = plan.config.measure.warmup
    for number in range(count):
        emit(Progress("warm-up", number, count))
        for arm in range(len(plan.arms)):
            for batch in range(len(session.batches)):
                visit(plan, session, arm, batch, "throughput", None)


def _blocks(plan: Plan, session: Session, emit: Emit) -> None:
    rule = stopping_rule(plan.config.measure)
    total = plan.config.measure.blocks if plan.config.measure.stopping == "fixed" else None
    began_ns = session.clock.now_ns()
    decode_s: list[list[float]] = []
    while True:
        elapsed_s = (session.clock.now_ns() - began_ns) * 1e-9
        reason = rule.reason_to_stop(decode_s, elapsed_s)
        if reason is not None:
            emit(Stopped(reason))
            return
        emit(Progress("blocks", len(decode_s), total))
        block = _block(plan, session, len(decode_s))
        emit(block)
        decode_s.append(_decode_seconds(block, len(plan.arms)))


def _block(plan: Plan, session: Session, index: int) -> Block:
    started_at = datetime.now(UTC).isoformat()
    began_ns = session.clock.now_ns()
    lanes = ["throughput"]
    if plan.config.measure.step_lane:
        lanes.append("steps")
    if plan.config.trace.probabilities:
        lanes.append("trace")
    order = plan.visiting_order(index)
    visits = tuple(
        visit(plan, session, arm, batch, lane, index)
        for lane in lanes
        for arm in order
        for batch in range(len(session.batches))
    )
    return Block(index, order, started_at, (session.clock.now_ns() - began_ns) * 1e-9, visits)


def visit(plan: Plan, session: Session, arm: int, batch: int, lane: str, block: int | None) -> Visit:
    """Run one arm over one batch in a lane ("throughput", "steps" or "trace"); `block` is None outside of blocks."""
    decoder = session.decoder(arm, traced=lane == "trace")
    decoder.prepare(block)
    stopwatch = Stopwatch(session.clock, per_step=lane == "steps")
    # The timed region begins with `start` and ends with `finish`: nothing else belongs between them.
    stopwatch.start()
    decoded = decoder.run(session.batches[batch], plan.config.workload.new_tokens, stopwatch, session.stop_ids)
    timing = stopwatch.finish()
    ids = session.new_ids(decoded)
    proof = session.proof(arm, batch, decoded.passes)
    return Visit(
        arm=arm,
        batch=batch,
        lane=lane,
        ttft_s=timing.ttft_s,
        decode_s=timing.decode_s,
        decode_device_s=timing.decode_device_s,
        decode_enqueue_s=timing.decode_enqueue_s,
        sequences=len(ids),
        new_tokens=sum(map(len, ids)),
        steps=max(map(len, ids)) - 1,
        step_s=timing.step_s,
        tokens_sha256=tokens_sha256(ids),
        passes_checked=proof.steps_checked,
        violations=proof.violations,
    )


def _decode_seconds(block: Block, arms: int) -> list[float]:
    seconds = [0.0] * arms
    for visit in block.visits:
        if visit.lane == "throughput":
            seconds[visit.arm] += visit.decode_s
    return seconds
