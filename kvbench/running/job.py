"""One measurement from the first visit to the last block: the protocol, as a list of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvbench.measuring.sensors import EnergyMeter
from kvbench.measuring.stopping import stopping_rule
from kvbench.records.evidence import HostCheck, HostChecks, Phase, Stopping
from kvbench.records.samples import Sample, Watching
from kvbench.records.scaling import Attempting
from kvbench.records.sharing import Waiting
from kvbench.records.timings import Block, ColdVisit, RealDecode, Visit, counted
from kvbench.records.untimed import UntimedPass
from kvbench.running.sessions import Session
from kvbench.running.visits import audit_blocks, evidence, measure_block, visit


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


Emit = Callable[[Sample | Progress | Text | Watching | Attempting | Waiting], None]


def run_job(session: Session, emit: Emit) -> None:
    """Measure every arm of a plan; everything that is learnt leaves through `emit` as soon as it is whole."""
    _Job(session, emit).run()


class _Job:
    """The phases of one run, in their order, and what one hands to the next."""

    def __init__(self, session: Session, emit: Emit) -> None:
        self.session = session
        self.plan = session.plan
        self.untimed = session.untimed
        self.emit = emit
        self.arms = range(len(session.plan.arms))
        self.cold: list[ColdVisit] = []
        self.passes: list[UntimedPass] = []
        self.warm: list[list[Visit]] = []  # the last warm-up, by arm

    def run(self) -> None:
        self.emit(self.session.prepared)
        for phase, work in (
            ("first visit", self._cold_visits),
            ("text", self._text),
            ("shapes", self._shapes),
            ("memory and proof", self._untimed_passes),
            ("agreement", self._agreements),
            ("re-scoring", self._rescores),
            ("token confidence", self._traced_passes),
            ("warm-up", self._warm_up),
            ("first visits explained", self._evidence),
            ("blocks", self._blocks),
            ("real decode", self._real_decodes),
            ("energy", self._energy),
            ("audit", self._audit),
            ("what a step is made of", self._work),
        ):
            began_ns = self.session.clock.now_ns()
            work(phase)
            self.emit(Phase(name=phase, seconds=(self.session.clock.now_ns() - began_ns) * 1e-9))

    def _cold_visits(self, phase: str) -> None:
        for arm in self.arms:
            self._tell(phase, arm)
            visits = self._visits(arm, "steps")
            steps = sum(visit.steps for visit in visits)
            self.cold.append(
                ColdVisit(
                    arm=arm,
                    ttft_s=visits[0].ttft_s,
                    itl_s=sum(visit.decode_s for visit in visits) / steps if steps else None,
                    step_s=tuple(visit.step_s or () for visit in visits),
                    compile_s=self.session.decoders.prepared_s(arm),
                )
            )
            self.emit(self.cold[-1])

    def _text(self, _phase: str) -> None:
        if self.plan.config.stream.interval:
            self.untimed.show_text(self.session, lambda kind, text: self.emit(Text(kind, text)))

    def _shapes(self, _phase: str) -> None:
        self.emit(self.untimed.shapes(self.session))

    def _untimed_passes(self, phase: str) -> None:
        for arm in self.arms:
            self._tell(phase, arm)
            self.passes.append(self.untimed.pass_of(self.session, arm))
            self.emit(self.passes[-1])

    def _agreements(self, phase: str) -> None:
        padding = self.untimed.padding(self.session)
        if padding is not None:
            self.emit(padding)
        if self.plan.config.check.agreement == "none":
            return
        if len(self.arms) > 1:
            tell = lambda done, total: self.emit(Progress(phase, done, total))  # noqa: E731
            for figures in self.untimed.agreements(self.session, self.passes, tell):
                self.emit(figures)
        if self.plan.config.check.reference != "none":
            self.emit(Progress("reference", 0, None))
            for distance in self.untimed.references(self.session, self.passes):
                self.emit(distance)

    def _rescores(self, phase: str) -> None:
        if self.plan.config.check.rescore:
            tell = lambda done, total: self.emit(Progress(phase, done, total))  # noqa: E731
            for samples in self.untimed.rescores(self.session, tell):
                self.emit(samples)

    def _traced_passes(self, phase: str) -> None:
        if not self.plan.config.trace.probabilities:
            return
        for arm in self.arms:
            self._tell(phase, arm)
            self.emit(self.untimed.traced_pass(self.session, arm))

    def _warm_up(self, phase: str) -> None:
        # What the untimed passes gave up on the device is prepared again here, before anything is timed.
        count = max(self.plan.config.measure.warmup, int(any(arm.repeats for arm in self.plan.arms)))
        for number in range(count):
            self.emit(Progress(phase, number, count))
            self.warm = [self._visits(arm, "throughput") for arm in self.arms]

    def _evidence(self, phase: str) -> None:
        for arm in self.arms:
            warm = self.warm[arm] if self.warm else []
            self.emit(evidence(self.session, self.cold[arm], warm, lambda arm=arm: self._tell(phase, arm)))  # type: ignore[misc]

    def _blocks(self, phase: str) -> None:
        checks = HostChecks(before=self._host_check())
        self.emit(checks)
        self._measured_blocks(phase)
        self.emit(checks.model_copy(update={"after": self._host_check()}))

    def _host_check(self) -> HostCheck:
        # By rank 0 alone, while the others wait: they would slow each other down.
        return self.session.team.led(lambda: self.untimed.host_check(self.session))

    def _measured_blocks(self, phase: str) -> None:
        rule = stopping_rule(self.plan.config.measure)
        total = self.plan.config.measure.blocks if self.plan.config.measure.stopping == "fixed" else None
        began_ns = self.session.clock.now_ns()
        blocks: list[Block] = []
        repeats: int | None = None
        while True:
            standing = counted(blocks)
            elapsed_s = self.session.team.led(lambda: (self.session.clock.now_ns() - began_ns) * 1e-9)
            reason = rule.reason_to_stop([_decode_seconds(block, len(self.arms)) for block in standing], elapsed_s)
            if reason is not None and repeats is None:
                self.emit(Stopping(rule=self.plan.config.measure.stopping, reason=reason))
                return
            self.emit(Progress(phase, len(standing) - (repeats is not None), total))
            blocks.append(measure_block(self.session, len(blocks), repeats))
            self.emit(blocks[-1])
            # A throttled block is measured again, once; the second time it stands, whatever it was.
            repeats = blocks[-1].index if blocks[-1].throttled and repeats is None else None

    def _real_decodes(self, phase: str) -> None:
        wanted = self.plan.config.scaling.decode_tokens
        if not self.plan.prompts.lengths or self.plan.config.scaling.lengths is None or not wanted:
            return
        batch, new_tokens = self.session.batches.with_room(wanted)
        for arm in self.arms:
            self._tell(phase, arm)
            if self.plan.arms[arm].repeats:  # prepares the shapes, whose cost is not that of a length
                visit(self.session, arm, batch, "steps", None, new_tokens=new_tokens)
            # Twice: a real decode meets every length for the first time, the fitted law is one of lengths met before.
            first, second = (visit(self.session, arm, batch, "steps", None, new_tokens=new_tokens) for _ in range(2))
            self.emit(RealDecode(arm, batch.longest, first.ttft_s, first.step_s or (), second.step_s or ()))

    def _energy(self, phase: str) -> None:
        seconds = self.plan.config.measure.energy_s
        sensors, team = self.session.sensors, self.session.team
        meter = EnergyMeter(sensors, self.session.clock, team.led)
        if not seconds:
            meter.reason = "not measured (measure.energy_s=0)"
        elif team.led(sensors.energy_j) is None:
            meter.reason = sensors.reason or "the device has no energy counter"
        measured = meter.reason is None
        if measured:
            self._tell(phase, 0)
        idle_watts = meter.idle_watts() if measured else None
        for arm in self.arms:
            if measured:
                self._tell(phase, arm)
            self.emit(meter.window(arm, lambda arm=arm: self._tokens(arm), seconds, idle_watts))  # type: ignore[misc]

    def _audit(self, phase: str) -> None:
        if self.plan.config.audit:
            count = self.plan.config.measure.blocks
            for index in range(count):
                self.emit(Progress(phase, index, count))
                for block in audit_blocks(self.session, index, self.emit):
                    self.emit(block)

    def _work(self, phase: str) -> None:
        # Last: a profiler leaves its hooks in the driver until the run is over, and nothing timed shall pay for them.
        for arm in self.arms:
            self._tell(phase, arm)
            self.emit(self.untimed.step_work(self.session, arm))
        self.emit(self.untimed.counted_flops(self.session))

    def _tokens(self, arm: int) -> int:
        return sum(visit.new_tokens for visit in self._visits(arm, "throughput"))

    def _visits(self, arm: int, lane: str) -> list[Visit]:
        return [visit(self.session, arm, batch, lane, None) for batch in self.session.batches]

    def _tell(self, phase: str, arm: int) -> None:
        self.emit(Progress(phase, arm, len(self.arms)))


def _decode_seconds(block: Block, arms: int) -> list[float]:
    seconds = [0.0] * arms
    for each in block.visits:
        if each.lane == "throughput":
            seconds[each.arm] += each.decode_s
    return seconds
