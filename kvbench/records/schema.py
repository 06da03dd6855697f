"""The record of one run: what run.json holds. The contract of everything that reads results.

Names carry units. Unknown is null, and `null_reasons` maps its JSON pointer to the reason.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from kvbench.arm import Arm
from kvbench.records.agreement import Agreement, ReferenceDistance
from kvbench.records.ceilings import Ceilings
from kvbench.records.diagnosis import Sentence
from kvbench.records.evidence import Audit, DeviceDuring, LengthProbe, Phase, Reconciliation
from kvbench.records.frontier import Frontier
from kvbench.records.growth import Growth
from kvbench.records.host_checks import HostChecks
from kvbench.records.part import Estimate, Measured, Part, Speedup
from kvbench.records.sweep_audit import SweepAudit

SCHEMA_VERSION = 1

Status = Literal["ok", "invalid", "failed", "oom", "timeout", "crashed", "interrupted", "infeasible", "refused"]


class Cold(Part):
    """The first visit of an arm: `step_s` are its decode steps per batch, each at a length never seen before.

    `compile_s` of it went to compiling and capturing, which an engine does once for each shape; `probes` tell what else
    it paid for, where it cost much more than a warm one.
    """

    ttft_s: float | None
    itl_s: float | None
    load_s: float | None
    compile_s: float | None
    step_s: tuple[tuple[float, ...], ...] = ()
    probes: tuple[LengthProbe, ...] | None = None


class TokenPercentiles(Part):
    """Percentiles over single decode steps; descriptive, without intervals (steps of one run are correlated)."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    n_tokens: int


class Memory(Part):
    """Bytes of one arm, from an untimed pass of its own."""

    weights_bytes: int | None
    kv_cache_bytes: int | None
    kv_cache_predicted_bytes: int | None
    kv_cache_storage_bytes: int | None
    peak_allocated_bytes: int | None
    peak_reserved_bytes: int | None
    device_used_bytes: int | None
    process_rss_bytes: int | None
    reconciliation: Reconciliation | None = None
    kv_cache_host_bytes: int = 0  # of kv_cache_bytes those that wait on the host, of an offloaded cache


class MemoryPoint(Part):
    """Memory of one arm at one context length of the untimed pass."""

    context_length: int
    kv_cache_bytes: int | None
    allocated_bytes: int | None


class Energy(Part):
    """Energy of whole generations repeated over a window, from the device's cumulative counter.

    Per new token, prefills and the device's idle power included; `idle_watts` was measured just before.
    """

    joules_per_token: float | None
    idle_watts: float | None
    window_s: float | None
    new_tokens: int | None = None


Bound = Literal["launch", "memory", "compute", "first-visit"]


class KernelShare(Part):
    """A kernel by its name, and its share of the time in which the device computes."""

    name: str
    share: float


class Limit(Part):
    """How far a decode step of an arm is from what the machine could do, means over the run's steps.

    The floor is the longer of reading `bytes` and of computing `flops` at the machine's measured ceilings. MBU is
    bytes, MFU flops a second over those ceilings, causal attention counted. `launch_s` is the time in which the device
    waits for the host; where the host computes itself, the time of submitting that many small operations.
    """

    floor_s: float | None
    bound: Bound | None
    mbu: float | None
    mfu: float | None
    launch_s: float | None
    memory_s: float | None = None
    compute_s: float | None = None
    weight_bytes: int | None = None
    kv_bytes: int | None = None
    flops: int | None = None
    head_flops: int | None = None  # of them, logits
    device_busy_s: float | None = None
    operations: float | None = None
    kernels: tuple[KernelShare, ...] = ()  # the three that take most of device_busy_s, and the first attention
    prefill_floor_s: float | None = None
    prefill_flops: int | None = None
    prefill_mfu: float | None = None
    prefill_bytes: int | None = None


class ProofResult(Part):
    """Steps whose submission was checked against the mode's promise, and how many broke it.

    `first_violation` and `resubmitted_steps` are of the untimed pass: the latter are steps of a mode that keeps a past
    in which everything was submitted again.
    """

    steps_checked: int
    violations: int
    first_violation: str | None = None
    resubmitted_steps: int | None = None


class Turn(Measured):
    """The pass after one interruption: a rebuilt cache, or an inserted message appended to the one that was kept.

    `ttft_s` is its latency in the per-token lane, from the interruption to the first token after it.
    `paid_back_after_tokens` counts new tokens from this one on, after which rebuilding has cost less time than going on
    without a cache (the run's nocache arm at the same context).
    """

    step: int  # index of the new token that the pass makes
    context_length: int
    submitted_tokens: int
    ttft_s: Estimate
    paid_back_after_tokens: int | None


class ArmRecord(Measured, Arm):  # type: ignore[misc]  # mypy does not see that every `Part` is frozen
    """One way of decoding and everything measured of it."""

    # Of the parts of an arm, those that no record lacks.
    mode: str = Field()
    cache: str = Field()
    engine: str = Field()
    attention: str = Field()
    cold: Cold
    ttft_s: Estimate
    itl_s: Estimate
    decode_tokens_per_s: Estimate
    end_to_end_tokens_per_s: Estimate
    itl_percentiles_s: TokenPercentiles
    padding_share: float | None = None  # submitted over needed tokens of its decode steps, minus 1
    step_lane_cost: float | None  # decode time of the per-token lane over the throughput lane's, minus 1
    trace_cost: float | None = None  # the same of the lane with token confidence; records of before it lack the field
    memory: Memory
    memory_by_context: tuple[MemoryPoint, ...]
    energy: Energy
    limit: Limit
    tokens: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    finish_reason: tuple[str, ...]
    proof: ProofResult
    turns: tuple[Turn, ...] = ()
    outlier_blocks: tuple[int, ...] = ()  # indices of blocks whose ITL stands out; labelled, never left out


class Comparison(Part):
    """A candidate arm against the baseline arm of the same run; arms are indices into `arms`."""

    baseline_arm: int
    candidate_arm: int
    speedup: Speedup
    end_to_end_speedup: Speedup
    extra_memory_bytes: int | None
    break_even_context: int | None
    agreement: Agreement
    verdict: Literal["FASTER", "SLOWER", "SAME", "AMBIGUOUS", "INVALID"]
    reasons: tuple[str, ...]
    diagnosis: tuple[Sentence, ...] = ()


class Check(Part):
    """One line behind VALID or INVALID."""

    name: str
    passed: bool
    detail: str
    advice: str


class RunWarning(Part):
    """Something a reader should know that does not invalidate the run."""

    code: str
    detail: str


class Stopping(Part):
    """The stopping rule declared before the run, and why it ended."""

    rule: str
    reason: str


class Keys(Part):
    """Digests of what must be equal: to compare two runs, and to skip a finished point."""

    compare_key: str
    resume_key: str


class Workload(Part):
    """Size and identity of what was decoded; lists hold one value per prompt."""

    prompt_tokens: tuple[int, ...]
    new_tokens: int
    batch_size: int
    prompt_sha256: str


class HostSample(Part):
    """Memory seen by the parent from outside the measured process."""

    elapsed_s: float
    phase: str
    process_rss_bytes: int | None
    device_used_bytes: int | None


class FlopsCheck(Part):
    """Predicted FLOPs of one prefill beside those that torch's counter sees under eager attention."""

    batch: int
    tokens: int
    predicted: int | None
    counted: int | None


class RunRecord(Part):
    """One run. A run that did not end holds what was known by then; `status` and `status_reason` say how it ended."""

    schema_version: Literal[1] = 1
    run_id: str
    created_at: str
    kvbench_version: str
    status: Status
    status_reason: str | None
    config: dict[str, Any]
    keys: Keys
    environment: dict[str, Any]
    model: dict[str, Any] | None
    workload: Workload | None
    shapes: dict[str, Any] | None
    arms: tuple[ArmRecord, ...]
    stopping: Stopping | None
    comparisons: tuple[Comparison, ...]
    comparison: Comparison | None
    checks: tuple[Check, ...]
    warnings: tuple[RunWarning, ...]
    memory_timeline: tuple[HostSample, ...]
    phases: tuple[Phase, ...] = ()
    device_during: DeviceDuring | None = None
    audits: tuple[Audit, ...] = ()
    references: tuple[ReferenceDistance, ...] = ()
    growth: Growth | None = None
    frontier: Frontier | None = None
    ceilings: Ceilings | None = None
    flops_check: FlopsCheck | None = None
    host_checks: HostChecks | None = None
    sweep_audit: SweepAudit | None = None
    null_reasons: dict[str, str] = Field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether the run was measured and every check passed."""
        return self.status == "ok"
