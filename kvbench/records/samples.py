"""What a measurement hands over: raw samples, and parts of the record that are whole already, without torch.

Every sample crosses the process boundary by pickle. Units are in the names. `None` means unknown, never zero. The
families of them have modules beside this one. What the record holds as it was measured is a `Part`, checked where it is
made; what figures are made of is a plain dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvbench.passes import UNINTERRUPTED, Interruptions
from kvbench.records.agreement_figures import AgreementFigures, ReferenceDistance
from kvbench.records.evidence import HostChecks, HostSample, Phase, RunWarning, Stopping
from kvbench.records.rescoring import RescoreSamples
from kvbench.records.scaling import Attempted, Capacity, SearchEnd, Tried
from kvbench.records.sharing import Sharing
from kvbench.records.timings import AuditBlock, Block, ColdEvidence, ColdVisit, RealDecode, counted
from kvbench.records.untimed import CountedFlops, EnergyWindow, StepWork, TracedPass, UntimedPass


@dataclass(frozen=True)
class Prepared:
    """What the worker knows before the first measurement."""

    model: dict[str, Any]
    environment: dict[str, Any]
    prompts: tuple[dict[str, Any], ...]  # {"text", "token_ids"}
    batches: tuple[tuple[int, ...], ...]  # indices into prompts
    load_s: float
    interruptions: Interruptions = UNINTERRUPTED
    unused_tensors: tuple[str, ...] = ()  # of the checkpoint, which the architecture has no place for
    remarks: tuple[RunWarning, ...] = ()


@dataclass(frozen=True)
class Shapes:
    """Tensors of one prefill and of one step of each mode, with the meaning of their dimensions and their bytes."""

    shapes: dict[str, Any]


@dataclass(frozen=True)
class Watching:
    """Whether the parent shall go on reading the worker's memory."""

    on: bool


Sample = (
    Prepared
    | ColdVisit
    | ColdEvidence
    | UntimedPass
    | TracedPass
    | Shapes
    | AgreementFigures
    | ReferenceDistance
    | RescoreSamples
    | EnergyWindow
    | Block
    | AuditBlock
    | RealDecode
    | StepWork
    | CountedFlops
    | Phase
    | HostChecks
    | Stopping
    | RunWarning
    | Capacity
    | Attempted
    | Tried
    | SearchEnd
    | HostSample
    | Sharing
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
    references: list[ReferenceDistance] = field(default_factory=list)
    rescores: list[RescoreSamples] = field(default_factory=list)
    energy: list[EnergyWindow] = field(default_factory=list)
    all_blocks: list[Block] = field(default_factory=list)
    audits: list[AuditBlock] = field(default_factory=list)
    real_decodes: list[RealDecode] = field(default_factory=list)
    work: list[StepWork] = field(default_factory=list)
    counted_flops: CountedFlops | None = None
    phases: list[Phase] = field(default_factory=list)
    host_checks: HostChecks | None = None
    stopped: Stopping | None = None
    warnings: list[RunWarning] = field(default_factory=list)
    capacity: Capacity | None = None
    tried: list[Tried] = field(default_factory=list)
    search_ends: list[SearchEnd] = field(default_factory=list)
    host_readings: list[HostSample] = field(default_factory=list)
    sharing: list[Sharing] = field(default_factory=list)

    @property
    def blocks(self) -> list[Block]:
        """The blocks that figures are made of."""
        return counted(self.all_blocks)

    def add(self, message: object) -> None:
        """Keep a message where it belongs, if it is a sample."""
        kind = type(message)
        if kind in LAST_OF_ITS_KIND:
            setattr(self, LAST_OF_ITS_KIND[kind], message)
        elif kind in EVERY_ONE:
            getattr(self, EVERY_ONE[kind]).append(message)


# Which attribute of `RunSamples` keeps a sample. `Attempted` is in neither: it is in the try that its parent tells of.
LAST_OF_ITS_KIND: dict[type, str] = {
    Prepared: "prepared",
    Shapes: "shapes",
    CountedFlops: "counted_flops",
    HostChecks: "host_checks",
    Stopping: "stopped",
    Capacity: "capacity",
}
EVERY_ONE: dict[type, str] = {
    ColdVisit: "cold",
    ColdEvidence: "cold_evidence",
    UntimedPass: "untimed",
    TracedPass: "traced",
    AgreementFigures: "agreement",
    ReferenceDistance: "references",
    RescoreSamples: "rescores",
    EnergyWindow: "energy",
    Block: "all_blocks",
    AuditBlock: "audits",
    RealDecode: "real_decodes",
    StepWork: "work",
    Phase: "phases",
    RunWarning: "warnings",
    Tried: "tried",
    SearchEnd: "search_ends",
    HostSample: "host_readings",
    Sharing: "sharing",
}
