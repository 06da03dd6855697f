"""What a measurement hands over: raw samples and facts, as plain data without torch.

Every class here crosses the process boundary by pickle and lands in a run folder as JSON, so fields are plain
numbers, strings, lists and dicts. Units are in the names. `None` means unknown, never zero.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from kvbench.interruptions import NONE, Interruptions


def tokens_sha256(ids: list[list[int]]) -> str:
    """A digest of the new ids of one batch: equal digests, equal tokens."""
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


@dataclass(frozen=True)
class Visit:
    """One arm over one batch of prompts, from the prompt to the last new token.

    `decode_s` is host wall time between two synchronisations; `decode_device_s` the same span on the device's own
    timeline, and `decode_enqueue_s` the part of the wall time until the host had submitted the last step.
    """

    arm: int
    batch: int
    # "throughput": no synchronisation between the steps; "steps": one mark per step; "trace": with token confidence
    lane: str
    ttft_s: float
    decode_s: float
    decode_device_s: float | None
    decode_enqueue_s: float
    sequences: int
    new_tokens: int  # summed over the sequences, the first ones included
    steps: int  # forward passes after the prefill
    step_s: tuple[float, ...] | None  # one per step in the "steps" lane
    tokens_sha256: str
    passes_checked: int  # forward passes held against the mode's promise; 0 for `generate`, which hides them here
    violations: int  # of those, the ones that broke it


@dataclass(frozen=True)
class DeviceReading:
    """One look at the device between two measurements. None is what it does not tell."""

    sm_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    limits: tuple[str, ...] | None  # what holds its clock down at this moment, in the words of `measuring.throttling`
    limited_s: dict[str, float] | None  # seconds that each cause has held it down since the driver was loaded


@dataclass(frozen=True)
class Block:
    """One visit to every arm in random order, over every prompt batch and in every lane."""

    index: int
    order: tuple[int, ...]  # arms in the order they were visited
    started_at: str
    elapsed_s: float
    visits: tuple[Visit, ...]
    device_before: DeviceReading | None = None
    device_after: DeviceReading | None = None
    throttled: tuple[str, ...] = ()  # why, when the device was slowed down while it ran
    repeats: int | None = None  # the index of the throttled block that this one stands for
    other_cores: float | None = None  # CPU cores kept busy by other processes meanwhile


def counted(blocks: list[Block]) -> list[Block]:
    """The blocks that figures are made of: all but the throttled ones that another stands for."""
    replaced = {block.repeats for block in blocks}
    return [block for block in blocks if block.index not in replaced]


@dataclass(frozen=True)
class Reconciliation:
    """Where the device's memory went at the end of an arm's untimed pass, in bytes.

    weights + cache + step peak + allocator slack is what torch's allocator had reserved; with the device context, the
    kernels and what is elsewhere it should be what NVML reports. The rest is `unexplained_bytes`, of either sign.
    """

    weights_bytes: int
    kv_cache_bytes: int  # of the storages behind the cache
    step_peak_bytes: int  # the allocator's high-water mark over weights and cache: activations, prompts, workspaces
    allocator_slack_bytes: int  # reserved and never in use at once
    device_context_bytes: int  # what starting CUDA took, before anything was loaded
    kernels_bytes: int  # what was added outside the allocator before this pass: kernel code, plans, handles
    elsewhere_bytes: int  # in use before this process touched the device: the driver and other processes
    device_used_bytes: int
    unexplained_bytes: int


@dataclass(frozen=True)
class ArmMemory:
    """Bytes of one arm, from an untimed pass of its own after the allocator was emptied."""

    weights_bytes: int | None
    kv_cache_bytes: int | None  # walked from the cache's tensors, at the largest batch
    kv_cache_predicted_bytes: int | None  # from the model's config alone
    kv_cache_storage_bytes: int | None  # of the unique storages behind those tensors
    peak_allocated_bytes: int | None
    peak_reserved_bytes: int | None
    device_used_bytes: int | None
    process_rss_bytes: int | None
    reconciliation: Reconciliation | None = None
    null_reasons: dict[str, str] = field(default_factory=dict)  # field name -> why it is None


@dataclass(frozen=True)
class Proof:
    """Whether every step submitted what its mode promises."""

    steps_checked: int
    violations: int
    first_violation: str | None = None
    resubmitted: int = 0  # of the violations, passes after the first that submitted the whole context to a mode's past
    unseen: tuple[str, ...] = ()  # what could not be looked at, in words


@dataclass(frozen=True)
class MemoryAtStep:
    """Memory after one step of the untimed pass; `context_length` counts prompt and new tokens so far."""

    context_length: int
    kv_cache_bytes: int | None
    allocated_bytes: int | None


@dataclass(frozen=True)
class UntimedPass:
    """What one arm produced and held when nobody was timing."""

    arm: int
    tokens: tuple[tuple[int, ...], ...]  # new ids per sequence in prompt order
    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...]  # "stop" or "length"
    tokens_sha256: tuple[str, ...]  # per batch
    memory: ArmMemory
    memory_by_step: tuple[MemoryAtStep, ...]
    proof: Proof


@dataclass(frozen=True)
class TracedToken:
    """What the model thought of one new token, by its raw logits (softmax in float32, before any sampling setting).

    `text` is a piece of the sequence's text: joined, the pieces are the text, so a token that holds a part of a
    character has none until the one that completes it. None: the model gave no finite figure.
    """

    token_id: int
    text: str
    probability: float | None
    rank: int  # 1 is the likeliest
    entropy_nats: float | None
    alternatives: tuple[tuple[int, str, float], ...]  # likeliest first: id, the token's own text, probability


@dataclass(frozen=True)
class TracedPass:
    """Token confidence of one arm, from an untimed pass of its own: per prompt, in prompt order, the new tokens."""

    arm: int
    sequences: tuple[tuple[TracedToken, ...], ...]


@dataclass(frozen=True)
class ColdVisit:
    """The first visit of an arm: never averaged with the others."""

    arm: int
    ttft_s: float
    itl_s: float | None
    step_s: tuple[tuple[float, ...], ...]  # per batch, one per step


@dataclass(frozen=True)
class LengthProbe:
    """A few steps at context lengths that this attention has not seen in this process, twice in a row.

    What the first time costs more than the second is paid for new lengths; `*_itl_s` are medians over the few steps,
    which one hiccup of the host would else decide. Allocations are those that torch's allocator
    made on the device, `driver_bytes` what the device's memory grew by outside of it (kernel code, plans).
    """

    attention: str
    context_length: int  # of the first step
    steps: int
    first_ttft_s: float
    second_ttft_s: float
    first_itl_s: float
    second_itl_s: float
    first_allocations: int | None
    second_allocations: int | None
    first_driver_bytes: int | None
    second_driver_bytes: int | None


@dataclass(frozen=True)
class ColdEvidence:
    """What an arm's first visit paid for: its own attention and another one at unseen lengths; or why none was read."""

    arm: int
    probes: tuple[LengthProbe, ...]
    reason: str | None = None


@dataclass(frozen=True)
class EnergyWindow:
    """The device's energy counter over repeated generations of one arm; `joules` is None with a reason."""

    arm: int
    joules: float | None
    window_s: float | None
    new_tokens: int
    idle_watts: float | None
    reason: str | None = None


@dataclass(frozen=True)
class AuditBlock:
    """One arm visited under several conditions in random order, in the throughput lane.

    Conditions: "repeat" and "again" are the same visit twice; "fresh" has prompts of the same length never seen;
    "unwatched" is without the parent's readings of memory. Seconds of prefill and of decoding by condition.
    """

    index: int
    arm: int
    ttft_s: dict[str, float]
    decode_s: dict[str, float]


@dataclass(frozen=True)
class RealDecode:
    """One long generation, step by step, twice: at lengths of which most were not seen before, and once more."""

    arm: int
    prompt_tokens: int
    first_ttft_s: float
    first_step_s: tuple[float, ...]
    second_step_s: tuple[float, ...]


@dataclass(frozen=True)
class StepWork:
    """What a decode step of one arm is made of, from an untimed run under a profiler; means over steps and batches.

    `device_busy_s` is the time in which the device computes, without the gaps in which it waits for the host; None
    where the host computes itself. `operations` are kernels on a device, operators of the tensor library on the host.
    `kernels` are those that take most of that time, and the attention that takes most, by name and share of it.
    """

    arm: int
    operations: float | None
    device_busy_s: float | None
    reason: str | None = None  # why something of it is None
    kernels: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class CountedFlops:
    """FLOPs of one prefill as torch's counter sees them under eager attention; None with the reason."""

    batch: int
    tokens: int
    flops: int | None
    reason: str | None = None


@dataclass(frozen=True)
class StepFigures:
    """One step of a common token path, the worst over the rows; None is what is not a finite number."""

    step: int
    max_abs: float | None
    max_rel: float | None  # over the largest logit of the path
    kl: float | None
    flips: int  # rows whose likeliest token differs
    top2_margin: float | None


@dataclass(frozen=True)
class NoiseFigures:
    """What one other way of summing does to the baseline's logits; None with the reason where it could not be tried."""

    way: str
    max_abs: float | None
    max_rel: float | None = None
    skipped: str = ""


@dataclass(frozen=True)
class AgreementFigures:
    """Teacher-forced comparison of a candidate arm with the baseline on one token path.

    Differences are over the last position's logits of every step checked. `noise_abs` is the baseline's own difference
    when the same prefixes are summed in other orders, the largest of `noise`: what rounding alone does here.
    """

    candidate_arm: int
    steps: int
    max_abs_logit_diff: float | None
    max_rel_logit_diff: float | None
    kl: float | None
    argmax_flips: int
    noise_abs: float | None
    noise_rel: float | None
    first_divergence: int | None  # index of the first new token that differs in free running
    divergence_sequence: int | None
    top2_margin: float | None  # baseline's, at the first divergence
    dtype: str = "float32"
    sampled: bool = False  # whether the free runs draw their tokens
    penalised: bool = False  # whether they choose by scores other than the logits
    top2_margin_rel: float | None = None  # over the largest logit of the path
    by_step: tuple[StepFigures, ...] = ()
    noise: tuple[NoiseFigures, ...] = ()


@dataclass(frozen=True)
class ReferenceFigures:
    """One arm's logits against those of the same model computed in a wider type, on one token path."""

    arm: int
    dtype: str  # of the reference
    device: str  # where it was computed
    steps: int
    max_abs_logit_diff: float | None
    max_rel_logit_diff: float | None
    kl: float | None
    argmax_flips: int


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
class PhaseTime:
    """How long one phase of the run took, in the session's time."""

    phase: str
    seconds: float


@dataclass(frozen=True)
class Watching:
    """Whether the parent shall go on reading the worker's memory."""

    on: bool


@dataclass(frozen=True)
class Capacity:
    """The memory that sizes are sought for, and what is in use of it besides a model's weights."""

    limit_bytes: int | None
    overhead_bytes: int
    of_process: bool  # whether the limit is one of the worker's resident memory, which its parent enforces


@dataclass(frozen=True)
class Attempting:
    """The model is loaded and a try begins: its time and its memory count from here."""


@dataclass(frozen=True)
class Attempted:
    """A try that came to its end, and the most memory that was in use, in bytes, whatever it was allowed."""

    peak_bytes: int | None


@dataclass(frozen=True)
class Tried:
    """One try of a search, as its parent saw it end; `outcome` is a word of `records.frontier`."""

    arm: int
    axis: str  # context or batch
    fixed: int  # the other one
    predicted: int | None
    size: int
    outcome: str
    peak_bytes: int | None
    seconds: float
    detail: str


@dataclass(frozen=True)
class SearchEnd:
    """Why the search of one arm along one axis ended; `closed`: at an edge or a limit, not for want of tries."""

    arm: int
    axis: str
    closed: bool
    detail: str


@dataclass(frozen=True)
class HostReading:
    """Memory seen from outside the measured process."""

    elapsed_s: float
    phase: str
    process_rss_bytes: int | None
    device_used_bytes: int | None


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
