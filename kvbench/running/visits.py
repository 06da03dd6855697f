"""Visits, which time an arm over a batch, and what is made of them: blocks, audits, and looks at first visits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from typing import Any

from kvbench.capabilities import MODES
from kvbench.decoding.protocol import Decoded, Pass
from kvbench.measuring.clocks import Clock
from kvbench.measuring.environment import ForeignCpuLoad
from kvbench.passes import Buckets, CheckedProposals, Chunks, Promise, prove
from kvbench.plan import most_proposed
from kvbench.records.evidence import LengthProbe
from kvbench.records.samples import Watching
from kvbench.records.timings import (
    AuditBlock,
    Block,
    ColdEvidence,
    ColdVisit,
    Visit,
    limits_between,
    throttles,
    tokens_sha256,
)
from kvbench.records.untimed import Proof
from kvbench.running.prompt_batches import Batch
from kvbench.running.sessions import Session
from kvbench.statistics import median


@dataclass(frozen=True)
class Timing:
    """Seconds of one run: TTFT, the decode steps together, and (steps lane) each by itself."""

    ttft_s: float
    decode_s: float
    decode_device_s: float | None
    decode_enqueue_s: float
    step_s: tuple[float, ...] | None


class Stopwatch:
    """Times one run. Call `start`, let the decoder run with this as its observer, call `finish`.

    TTFT runs from `start` to the first token available on the device. Decoding is a region of its own after it, with
    no synchronisation inside: `per_step` adds one mark per token, resolved after the end. Of several ranks it begins
    when all of them have come with idle devices (`meet`), and ends when this one has its last token, to which every
    rank has contributed: no rank is waited for inside of a region but by the model itself.
    """

    def __init__(self, clock: Clock, *, per_step: bool, meet: Callable[[], None] = lambda: None) -> None:
        self._clock = clock
        self._meet = meet
        self._per_step = per_step
        self._marks: list[Any] = []

    def start(self) -> None:
        """Begin the prefill's region on an idle device."""
        self._clock.synchronise()
        self._meet()
        self._started_ns = self._clock.now_ns()

    def on_token(self, index: int, token_ids: Any) -> None:  # noqa: ARG002 - never read: that would synchronise
        """The first pass that makes tokens ends the prefill's region and begins the decode region."""
        if not self._marks:  # of a pass that makes several tokens at once, the last one is told
            self._clock.synchronise()
            self._first_token_ns = self._clock.now_ns()
            self._marks.append(self._clock.mark())
        elif self._per_step:
            self._marks.append(self._clock.mark())

    def finish(self) -> Timing:
        """End the decode region and resolve what was marked."""
        enqueued_ns = self._clock.now_ns()
        end = self._clock.mark()
        self._clock.synchronise()
        ended_ns = self._clock.now_ns()
        clock, marks = self._clock, self._marks
        steps = tuple(clock.between_s(a, b) for a, b in pairwise(marks)) if self._per_step else None
        return Timing(
            ttft_s=(self._first_token_ns - self._started_ns) * 1e-9,
            decode_s=(ended_ns - self._first_token_ns) * 1e-9,
            decode_device_s=clock.between_s(marks[0], end) if clock.has_device_timeline else None,
            decode_enqueue_s=(enqueued_ns - self._first_token_ns) * 1e-9,
            step_s=steps,
        )


def visit(
    session: Session,
    arm: int,
    batch: Any,
    lane: str,
    block: int | None,
    *,
    attention: str | None = None,
    new_tokens: int | None = None,
) -> Visit:
    """Run one arm over one batch in a lane ("throughput", "steps" or "trace"); `block` is None outside of blocks.

    `attention` and `new_tokens` take the place of the plan's.
    """
    decoders = session.decoders
    decoder = decoders.traced(arm) if lane == "trace" else decoders.plain(arm, attention=attention)
    decoder.prepare(block)
    stopwatch = Stopwatch(session.clock, per_step=lane == "steps", meet=session.team.meet)
    # The timed region begins with `start` and ends with `finish`: nothing else belongs between them.
    stopwatch.start()
    decoded = decoder.run(batch, new_tokens or session.plan.config.workload.new_tokens, stopwatch, session.stop_ids)
    timing = stopwatch.finish()
    ids = decoded.sequences(session.stop_ids)
    proof = proof_of(session, arm, batch, decoded)
    made = _of_tokens(decoded.made, sum(map(len, ids)))
    # The times are rank 0's on every rank, since what is measured next depends on them.
    ranks = session.team.gathered((tokens_sha256(ids), proof, timing))
    timing = ranks[0][2]
    return Visit(
        arm=arm,
        batch=batch.index,
        lane=lane,
        ttft_s=timing.ttft_s,
        decode_s=timing.decode_s,
        decode_device_s=timing.decode_device_s,
        decode_enqueue_s=timing.decode_enqueue_s,
        sequences=len(ids),
        new_tokens=sum(map(len, ids)),
        steps=max(map(len, ids)) - (made[0] if made else 1),
        step_s=timing.step_s,
        tokens_sha256=ranks[0][0],
        passes_checked=sum(rank_proof.steps_checked for _, rank_proof, _ in ranks),
        violations=sum(rank_proof.violations for _, rank_proof, _ in ranks),
        made=made,
        ranks=len(ranks),
        ranks_apart=sum(digest != ranks[0][0] for digest, _, _ in ranks),
    )


def _of_tokens(made: Sequence[int], count: int) -> tuple[int, ...]:
    """The new tokens of each pass, as far as there are `count`: what stands behind a stop id is no one's."""
    ends = accumulate(made)
    kept = (min(tokens, count - (end - tokens)) for tokens, end in zip(made, ends, strict=True))
    return tuple(tokens for tokens in kept if tokens > 0)


def promise_of(session: Session, arm: int, batch: Batch) -> Promise:
    """How an arm of a run hands the tokens of a batch over."""
    spec = session.plan.arms[arm]
    return {
        "loses_past": spec.mode == "interrupted",
        "buckets": Buckets(spec.bucket or 1, session.prepared.model["max_context"]),
        "chunks": Chunks(session.plan.config.workload.prefill_chunk),
        # transformers' generate prefills again there, since all positions turn otherwise from then on.
        "refill_at": None if MODES[spec.mode].ours else (session.prepared.model.get("rope_switch") or 0) + 1,
        "shared": batch.shared if spec.mode == "prefix" else 0,
    }


def proof_of(session: Session, arm: int, batch: Batch, decoded: Decoded) -> Proof:
    """A decoder's own passes over a batch held against the promise of the arm's mode."""
    passes = decoded.held_passes()
    if session.plan.arms[arm].proposes and passes:
        return proof_of_proposals(session, arm, batch, CheckedProposals(passes, decoded.made))
    return proof_of_passes(session, arm, batch, passes)


def proof_of_passes(session: Session, arm: int, batch: Batch, passes: Sequence[Pass]) -> Proof:
    """Forward passes of a mode that makes one token in each."""
    keeps_past, interruptions = session.plan.arms[arm].keeps_past, session.prepared.interruptions
    return prove(passes, batch.longest, keeps_past, interruptions, **promise_of(session, arm, batch))


def proof_of_proposals(session: Session, arm: int, batch: Batch, seen: CheckedProposals) -> Proof:
    """Forward passes of a mode whose passes check proposed tokens."""
    return seen.proof(batch.longest, most_proposed(session.plan, session.plan.arms[arm].mode))


def measure_block(session: Session, index: int, repeats: int | None) -> Block:
    """Every arm in random order, in every lane, with a look at machine and device on either side.

    `repeats` is the index of the throttled block that it stands for.
    """
    plan, lanes = session.plan, ["throughput"]
    if plan.config.measure.step_lane:
        lanes.append("steps")
    if plan.config.trace.probabilities:
        lanes.append("trace")
    order = plan.visiting_order(index)
    started_at = datetime.now(UTC).isoformat()
    others = ForeignCpuLoad(session.clock)
    device_before = session.sensors.reading()
    # The block begins after the readings and ends before them: they cost it nothing.
    began_ns = session.clock.now_ns()
    visits = tuple(
        visit(session, arm, batch, lane, index) for lane in lanes for arm in order for batch in session.batches
    )
    elapsed_s = (session.clock.now_ns() - began_ns) * 1e-9
    device_after = session.sensors.reading()
    block = Block(
        index=index,
        order=order,
        started_at=started_at,
        elapsed_s=elapsed_s,
        visits=visits,
        device_before=device_before,
        device_after=device_after,
        throttled=throttles(limits_between(device_before, device_after, elapsed_s)),
        repeats=repeats,
        other_cores=others.busy(session.team.gathered),
    )
    return session.team.led(lambda: block)  # whether it was throttled is rank 0's to say


# The audit of the instrument.


CONDITIONS = ("repeat", "again", "fresh", "unwatched")
SETTLE_S = 0.02  # for the parent to hear that it shall not look


def audit_blocks(session: Session, index: int, emit: Callable[[Watching], None]) -> Iterator[AuditBlock]:
    """The instrument put to the test in mid-run: the same arm twice, fresh prompts, and the cost of being watched.

    Every arm is visited under every condition, in an order drawn from the run's seed.
    """
    dice = random.Random(f"audit:{session.plan.config.measure.seed}:{index}")  # noqa: S311 - an order, not a secret
    for arm in range(len(session.plan.arms)):
        ttft_s, decode_s = {}, {}
        for condition in dice.sample(CONDITIONS, len(CONDITIONS)):
            if condition == "unwatched":
                emit(Watching(on=False))
                session.clock.wait(SETTLE_S)
            batches: Sequence[Any] = session.batches
            if condition == "fresh":
                batches = [session.batches.fresh(batch, dice.getrandbits(32)) for batch in session.batches]
            visits = [visit(session, arm, batch, "throughput", index) for batch in batches]
            if condition == "unwatched":
                emit(Watching(on=True))
            ttft_s[condition] = sum(each.ttft_s for each in visits)
            decode_s[condition] = sum(each.decode_s for each in visits)
        yield AuditBlock(index, arm, ttft_s, decode_s)


# What a first visit paid for.


NOTEWORTHY = 1.5  # times a warm visit; less is what caches and clocks do
PROBE_STEPS = 4
NO_LENGTH = (
    "not looked into: no context length is left that this model has not seen, a stop token ends every probe, the run is"
    " interrupted, or the mode is not a loop of ours"
)
PREPARED = "the engine compiles or captures every shape at its first visit: compile_s tells what that took"


def evidence(session: Session, cold: ColdVisit, warm: Sequence[Visit], begin: Callable[[], None]) -> ColdEvidence:
    """What an arm's first visit paid for, looked at where it cost much more than a later one.

    A real decode sees every context length for the first time, so the cost of a first time belongs to the answer;
    whether it is paid once per process or once per length, and by which attention, decides what can be done about it.
    So the arm's own attention and one other are probed at lengths that neither has seen. `begin` is called when there
    is something to look into.
    """
    steps, decode_s = sum(each.steps for each in warm), sum(each.decode_s for each in warm)
    if not steps or cold.itl_s is None:
        return ColdEvidence(cold.arm, (), "there was no warm visit to hold the first one against (measure.warmup)")
    if not decode_s:
        return ColdEvidence(cold.arm, (), "a warm visit's steps took no time that the clock can tell")
    ratio = cold.itl_s / (decode_s / steps)
    if ratio < NOTEWORTHY:
        return ColdEvidence(cold.arm, (), f"the first visit's steps took {ratio:.2f} times a warm one's")
    arm = session.plan.arms[cold.arm]
    if arm.repeats:
        return ColdEvidence(cold.arm, (), PREPARED)
    begin()
    own = _probe(session, cold.arm, arm.attention)
    if own is None:
        return ColdEvidence(cold.arm, (), NO_LENGTH)
    others = [_probe(session, cold.arm, attention) for attention in session.untimed.other_attentions(session, cold.arm)]
    return ColdEvidence(cold.arm, (own, *(probe for probe in others if probe is not None)))


def unseen_batch(session: Session, arm: int, steps: int) -> Any | None:
    """A batch from which so many steps are at context lengths that no visit has seen; every call gives others.

    None when no length is left, for a mode that is not a plain loop of ours, and where the run is interrupted.
    """
    spec = session.plan.arms[arm]
    is_plain = MODES[spec.mode].ours and not session.prepared.interruptions.steps
    if not is_plain or spec.repeats or spec.cache_tokens is not None:  # of a cache of a given length no room is left
        return None
    return session.batches.unseen(steps)


def _probe(session: Session, arm: int, attention: str) -> LengthProbe | None:
    batch = unseen_batch(session, arm, PROBE_STEPS)
    if batch is None:
        return None
    before = session.untimed.device_state(session)
    first = _visit(session, arm, batch, attention)
    between = session.untimed.device_state(session)
    second = _visit(session, arm, batch, attention)
    after = session.untimed.device_state(session)
    if first.steps < PROBE_STEPS or second.steps < PROBE_STEPS:
        return None  # a stop token came first
    return LengthProbe(
        attention=attention,
        context_length=batch.longest + 1,
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


def _visit(session: Session, arm: int, batch: Any, attention: str) -> Visit:
    return visit(session, arm, batch, "steps", None, attention=attention, new_tokens=PROBE_STEPS + 1)


def _growth(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
