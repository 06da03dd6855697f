"""What a measurement hands over: raw samples and facts, as plain data without torch.

Every sample crosses the process boundary by pickle and lands in a run folder as JSON, so fields are plain numbers,
strings, lists and dicts. Units are in the names. `None` means unknown, never zero. The larger families of them have
modules beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from kvbench.interruptions import NONE, Interruptions
from kvbench.measuring.agreement_figures import AgreementFigures, ReferenceFigures
from kvbench.measuring.blocks import Block, counted
from kvbench.measuring.cold_visits import ColdEvidence, ColdVisit
from kvbench.measuring.cross_checks import AuditBlock, RealDecode
from kvbench.measuring.energy import EnergyWindow
from kvbench.measuring.readings import HostReading
from kvbench.measuring.step_work import CountedFlops, StepWork
from kvbench.measuring.traced_pass import TracedPass
from kvbench.measuring.tries import Attempted, Capacity, SearchEnd, Tried
from kvbench.measuring.untimed_pass import UntimedPass
from kvbench.records.host_checks import HostCheck


@dataclass(frozen=True)
class Warned:
    """Something a reader should know that does not invalidate the run."""

    code: str
    detail: str


@dataclass(frozen=True)
class Prepared:
    """What the worker knows before the first measurement."""

    model: dict[str, Any]
    environment: dict[str, Any]
    prompts: tuple[dict[str, Any], ...]  # {"text", "token_ids"}
    batches: tuple[tuple[int, ...], ...]  # indices into prompts
    load_s: float
    interruptions: Interruptions = NONE
    unused_tensors: tuple[str, ...] = ()  # of the checkpoint, which the architecture has no place for
    remarks: tuple[Warned, ...] = ()


@dataclass(frozen=True)
class Shapes:
    """Tensors of one prefill and of one step of each mode, with the meaning of their dimensions and their bytes."""

    shapes: dict[str, Any]


@dataclass(frozen=True)
class Stopped:
    """The end of the measured blocks, with the stopping rule's reason."""

    reason: str


@dataclass(frozen=True)
class HostChecked:
    """How fast the host was just before the blocks, or just after them."""

    when: Literal["before", "after"]
    check: HostCheck


@dataclass(frozen=True)
class PhaseTime:
    """How long one phase of the run took, in the session's time."""

    phase: str
    seconds: float


Sample = (
    Prepared
    | ColdVisit
    | ColdEvidence
    | UntimedPass
    | TracedPass
    | Shapes
    | AgreementFigures
    | ReferenceFigures
    | EnergyWindow
    | Block
    | AuditBlock
    | RealDecode
    | StepWork
    | CountedFlops
    | PhaseTime
    | HostChecked
    | Stopped
    | Warned
    | Capacity
    | Attempted
    | Tried
    | SearchEnd
)


@dataclass
class RunSamples:
    """Everything measured in one run so far, in the order it arrived."""

    prepared: Prepared | None = None
    shapes: Shapes | None = None
    cold: list[ColdVisit] = field(default_factory=list)
    cold_evidence: list[ColdEvidence] = field(default_factory=list)
    untimed: list[UntimedPass] = field(default_factory=list)
    traced: list[TracedPass] = field(default_factory=list)
    agreement: list[AgreementFigures] = field(default_factory=list)
    references: list[ReferenceFigures] = field(default_factory=list)
    energy: list[EnergyWindow] = field(default_factory=list)
    all_blocks: list[Block] = field(default_factory=list)
    audits: list[AuditBlock] = field(default_factory=list)
    real_decodes: list[RealDecode] = field(default_factory=list)
    work: list[StepWork] = field(default_factory=list)
    counted_flops: CountedFlops | None = None
    phases: list[PhaseTime] = field(default_factory=list)
    host_checks: list[HostChecked] = field(default_factory=list)
    stopped: Stopped | None = None
    warnings: list[Warned] = field(default_factory=list)
    capacity: Capacity | None = None
    tried: list[Tried] = field(default_factory=list)
    search_ends: list[SearchEnd] = field(default_factory=list)
    host_readings: list[HostReading] = field(default_factory=list)

    @property
    def blocks(self) -> list[Block]:
        """The blocks that figures are made of."""
        return counted(self.all_blocks)

    def add(self, sample: Sample) -> None:
        """Keep one sample where it belongs."""
        match sample:
            case Prepared():
                self.prepared = sample
            case Shapes():
                self.shapes = sample
            case ColdVisit():
                self.cold.append(sample)
            case ColdEvidence():
                self.cold_evidence.append(sample)
            case UntimedPass():
                self.untimed.append(sample)
            case TracedPass():
                self.traced.append(sample)
            case AgreementFigures():
                self.agreement.append(sample)
            case ReferenceFigures():
                self.references.append(sample)
            case Block():
                self.all_blocks.append(sample)
            case EnergyWindow():
                self.energy.append(sample)
            case AuditBlock():
                self.audits.append(sample)
            case RealDecode():
                self.real_decodes.append(sample)
            case StepWork():
                self.work.append(sample)
            case CountedFlops():
                self.counted_flops = sample
            case PhaseTime():
                self.phases.append(sample)
            case HostChecked():
                self.host_checks.append(sample)
            case Stopped():
                self.stopped = sample
            case Warned():
                self.warnings.append(sample)
            case Capacity():
                self.capacity = sample
            case Tried():
                self.tried.append(sample)
            case SearchEnd():
                self.search_ends.append(sample)
            case Attempted():
                pass  # it is in the try that its parent tells of
