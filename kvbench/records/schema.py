"""The record of one run: what run.json holds. The contract of everything that reads results.

Names carry units. Unknown is null, and `null_reasons` maps its JSON pointer to the reason.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from kvbench.capabilities import EAGER
from kvbench.records.agreement_figures import Agreement, ReferenceDistance
from kvbench.records.ceilings import NO_CEILINGS, Ceilings
from kvbench.records.evidence import (
    Audit,
    DeviceDuring,
    HostChecks,
    LengthProbe,
    Phase,
    Reconciliation,
    Sentence,
    SweepAudit,
)
from kvbench.records.meaning import figure
from kvbench.records.part import Estimate, Measured, Part, SeriesPoint, Speedup
from kvbench.records.scaling import Frontier, Growth

SCHEMA_VERSION = 1
NO_COSTS = "what a step must read and compute is not predicted for this architecture"
NO_PROCESSES = "the device lists no processes, or only ids that are not of this process's world, as in a container"
OF_A_DEVICE = ("cuda", "hip", "cudnn", "device_memory_bytes", "device_uuid")  # in the environment

Status = Literal["ok", "invalid", "failed", "oom", "timeout", "crashed", "interrupted", "infeasible", "refused"]


class Cold(Part):
    """The first visit of an arm: `step_s` are its decode steps per batch, each at a length never seen before.

    `compile_s` of it went to compiling and capturing, which an engine does once for each shape; `probes` tell what else
    it paid for, where it cost much more than a warm one.
    """

    WHY_NULL = MappingProxyType(
        {
            "compile_s": "eager execution compiles nothing and captures nothing",
            "probes": "the run ended before there was a warm visit to hold the first one against",
            "*": "the run ended before the first visit",
        }
    )

    ttft_s: float | None = figure(
        "TTFT, first visit",
        "s",
        "lower",
        "TTFT of the arm's very first generation in this process; never averaged with the others.",
        "first visit",
        column="cold_ttft_s",
    )
    itl_s: float | None = figure(
        "ITL, first visit",
        "s",
        "lower",
        "Mean decode step of the arm's very first generation; never averaged with the others.",
        "first visit",
        column="cold_itl_s",
    )
    load_s: float | None = figure(
        "model load", "s", "lower", "From opening the weights to a model ready on its device.", "first visit"
    )
    compile_s: float | None = figure(
        "compilation",
        "s",
        "lower",
        "Time of the first visit that went to compiling or capturing, once for each shape.",
        "first visit",
    )
    step_s: tuple[tuple[float, ...], ...] = figure(
        "decode steps, first visit", "s", "lower", "Each step of the first generation, a list per batch.", default=()
    )
    probes: tuple[LengthProbe, ...] | None = None


def _percentile(rank: int) -> Any:
    computed = f"{rank}th percentile over single decode steps of the per-token lane; descriptive, steps are correlated."
    return figure(f"decode step, p{rank}", "s", "lower", computed, "single steps", column=f"itl_p{rank}_s")


class TokenPercentiles(Part):
    """Percentiles over single decode steps; descriptive, without intervals (steps of one run are correlated)."""

    WHY_NULL = MappingProxyType({"*": "too few steps: p50 needs 1, p90 64, p95 130, p99 662 (measure.step_lane)"})

    p50: float | None = _percentile(50)
    p90: float | None = _percentile(90)
    p95: float | None = _percentile(95)
    p99: float | None = _percentile(99)
    n_tokens: int = figure(
        "decode steps in the percentiles",
        "count",
        "none",
        "Decode steps timed one by one in the per-token lane.",
        "single steps",
        column="itl_tokens",
    )


class Memory(Part):
    """Bytes of one arm, from an untimed pass of its own."""

    WHY_NULL = MappingProxyType({"*": "the run ended before the memory pass"})

    weights_bytes: int | None = figure(
        "weights", "bytes", "lower", "Bytes of the model's parameters and buffers, tied ones once.", "memory"
    )
    kv_cache_bytes: int | None = figure(
        "KV cache, walked",
        "bytes",
        "lower",
        "Sum over the tensors that the cache's layers hold at the end of the largest batch.",
        "memory",
    )
    kv_cache_predicted_bytes: int | None = figure(
        "KV cache, predicted",
        "bytes",
        "none",
        "From the model's config alone: 2 × layers × KV heads × head width × bytes of a value × tokens × sequences.",
        "memory",
    )
    kv_cache_storage_bytes: int | None = figure(
        "KV cache, storage", "bytes", "lower", "Bytes of the distinct storages behind the cache's tensors.", "memory"
    )
    peak_allocated_bytes: int | None = figure(
        "peak allocated",
        "bytes",
        "lower",
        "Highest mark of torch's allocator during the arm's untimed pass, after emptying it.",
        "memory",
    )
    peak_reserved_bytes: int | None = figure(
        "peak reserved",
        "bytes",
        "lower",
        "Highest mark of what torch's allocator took from the device in that pass.",
        "memory",
    )
    device_used_bytes: int | None = figure(
        "device memory in use",
        "bytes",
        "lower",
        "In use on the whole device by every process, as its driver reports it.",
        "memory",
    )
    process_rss_bytes: int | None = figure(
        "process memory (RSS)",
        "bytes",
        "lower",
        "Resident memory of the measured process after the arm's untimed pass.",
        "memory",
    )
    reconciliation: Reconciliation | None = None
    kv_cache_host_bytes: int = figure(
        "KV cache, on the host",
        "bytes",
        "lower",
        "Of the walked bytes those that wait on the host, of an offloaded cache.",
        default=0,
    )


class MemoryPoint(SeriesPoint):
    """Memory of one arm at one context length of the untimed pass."""

    WHY_NULL = MappingProxyType({"*": "allocated_bytes: torch keeps no allocator statistics on this device"})

    context_length: int = figure("context", "tokens", "none", "Tokens visible to the pass.")
    kv_cache_bytes: int | None = figure(
        "KV cache, walked", "bytes", "lower", "Sum over the tensors that the cache's layers hold by then."
    )
    allocated_bytes: int | None = figure(
        "allocated", "bytes", "lower", "What torch's allocator has handed out by then."
    )


class Energy(Part):
    """Energy of whole generations repeated over a window, from the device's cumulative counter.

    Per new token, prefills and the device's idle power included; `idle_watts` was measured just before.
    """

    WHY_NULL = MappingProxyType({"*": "the run ended before energy was measured"})

    joules_per_token: float | None = figure(
        "energy per token",
        "J/token",
        "lower",
        "The device's energy counter over repeated generations, prefills and idle power included, ÷ new tokens.",
        "energy",
    )
    idle_watts: float | None = figure(
        "idle power",
        "W",
        "none",
        "The device's power before the window, with the model loaded and nothing running.",
        "energy",
    )
    window_s: float | None = figure(
        "energy window",
        "s",
        "none",
        "Length of the window that the energy was read over.",
        "energy",
        column="energy_window_s",
    )
    new_tokens: int | None = figure(
        "new tokens", "tokens", "none", "New tokens of all generations in the window.", default=None
    )


Bound = Literal["launch", "memory", "compute", "first-visit"]


class KernelShare(Part):
    """A kernel by its name, and its share of the time in which the device computes."""

    name: str
    share: float = figure("share", "ratio", "none", "Of the time in which the device computes.")


class Limit(Part):
    """How far a decode step of an arm is from what the machine could do, means over the run's steps.

    The floor is the longer of reading `bytes` and of computing `flops` at the machine's measured ceilings. MBU is
    bytes, MFU flops a second over those ceilings, causal attention counted. `launch_s` is the time in which the device
    waits for the host; where the host computes itself, the time of submitting that many small operations.
    """

    WHY_NULL = MappingProxyType(
        {
            "bound": f"{NO_CEILINGS}; or they lack the model's type, or the step was not profiled",
            "*": f"{NO_CEILINGS}; or they lack the model's type",
        }
    )

    floor_s: float | None = figure(
        "floor of a step",
        "s",
        "none",
        "The shortest decode step that the machine's measured bandwidth and FLOP rate allow.",
        "limit",
    )
    bound: Bound | None
    mbu: float | None = figure(
        "bandwidth used (MBU)",
        "ratio",
        "higher",
        "Achieved memory bandwidth ÷ the ceiling measured on this machine.",
        "limit",
    )
    mfu: float | None = figure(
        "arithmetic used (MFU)",
        "ratio",
        "higher",
        "Achieved FLOP rate ÷ the ceiling measured on this machine.",
        "limit",
    )
    launch_s: float | None = figure(
        "launch time of a step",
        "s",
        "lower",
        "Time of a decode step that the host spends launching rather than the device computing.",
        "limit",
    )
    memory_s: float | None = figure(
        "reading at the ceiling", "s", "none", "Time of reading a step's bytes at the measured bandwidth.", default=None
    )
    compute_s: float | None = figure(
        "computing at the ceiling", "s", "none", "Time of a step's FLOPs at the measured rate.", default=None
    )
    weight_bytes: int | None = figure(
        "weights read", "bytes", "none", "Bytes of weights that a step must read.", default=None
    )
    kv_bytes: int | None = figure(
        "cache read", "bytes", "none", "Bytes of keys and values that a step must read.", default=None
    )
    flops: int | None = figure(
        "arithmetic of a step", "FLOP", "lower", "What a step must compute, causal attention counted.", default=None
    )
    head_flops: int | None = figure("arithmetic of logits", "FLOP", "lower", "Of it, for logits.", default=None)
    device_busy_s: float | None = figure(
        "device at work", "s", "lower", "Time of a decode step in which the device computes.", default=None
    )
    operations: float | None = figure(
        "operations of a step",
        "count",
        "lower",
        "Kernels on a device, operators of the tensor library on the host.",
        default=None,
    )
    kernels: tuple[KernelShare, ...] = ()  # the three that take most of device_busy_s, and the first attention
    prefill_floor_s: float | None = figure(
        "floor of a prefill",
        "s",
        "none",
        "The shortest prefill that the machine's measured bandwidth and FLOP rate allow.",
        default=None,
    )
    prefill_flops: int | None = figure(
        "arithmetic of a prefill",
        "FLOP",
        "lower",
        "What a prefill must compute, causal attention counted.",
        default=None,
    )
    prefill_mfu: float | None = figure(
        "arithmetic used in the prefill",
        "ratio",
        "higher",
        "Achieved FLOP rate of the prefill ÷ the ceiling measured on this machine.",
        default=None,
    )
    prefill_bytes: int | None = figure(
        "bytes read by a prefill", "bytes", "none", "Weights and cache that a prefill must read.", default=None
    )


class ProofResult(Part):
    """Steps whose submission was checked against the mode's promise, and how many broke it.

    `first_violation` and `resubmitted_steps` are of the untimed pass: the latter are steps of a mode that keeps a past
    in which everything was submitted again.
    """

    WHY_NULL = MappingProxyType(
        {
            "first_violation": "no step of the untimed pass broke its mode's promise, or there was none",
            "resubmitted_steps": "the run ended before the untimed pass",
        }
    )

    steps_checked: int = figure(
        "steps proved",
        "count",
        "none",
        "Forward passes whose submission (tokens, past length) was checked against the mode's promise.",
        "proof",
        column="proof_steps_checked",
    )
    violations: int = figure(
        "proof violations",
        "count",
        "lower",
        "Of those, the ones that broke the promise; one is enough to make the run INVALID.",
        "proof",
        column="proof_violations",
    )
    first_violation: str | None = None
    resubmitted_steps: int | None = figure(
        "steps submitted again",
        "count",
        "lower",
        "Steps of a mode that keeps a past in which everything was submitted again.",
        default=None,
    )


class Turn(Measured):
    """The pass after one interruption: a rebuilt cache, or an inserted message appended to the one that was kept.

    `ttft_s` is its latency in the per-token lane, from the interruption to the first token after it.
    `paid_back_after_tokens` counts new tokens from this one on, after which rebuilding has cost less time than going on
    without a cache (the run's nocache arm at the same context).
    """

    WHY_NULL = MappingProxyType(
        {
            "paid_back_after_tokens": (
                "asked of mode interrupted beside mode nocache only, where a step without a cache is the slower one"
            )
        }
    )

    step: int = figure("new token", "index", "none", "Index of the new token that the pass makes.")
    context_length: int = figure("context", "tokens", "none", "Tokens visible to the pass.")
    submitted_tokens: int = figure("submitted", "tokens", "none", "Tokens that the pass submits.")
    ttft_s: Estimate = figure(
        "latency after the interruption",
        "s",
        "lower",
        "From the interruption to the first token after it, per-token lane.",
    )
    paid_back_after_tokens: int | None = figure(
        "paid back after",
        "tokens",
        "lower",
        "New tokens after which rebuilding has cost less than going on without a cache.",
    )


class ArmRecord(Measured):
    """One way of decoding and everything measured of it."""

    WHY_NULL = MappingProxyType(
        {
            "compile_mode": "the engine compiles nothing",
            "bucket": "passes have their exact lengths",
            "cache_tokens": "no length was asked for: a static cache has what the run needs, others grow",
            "padding_share": "the run ended before its steps were measured, or no sequence had one",
            "step_lane_cost": "the per-step lane was not measured",
            "trace_cost": "token confidence was not traced in the blocks (trace.probabilities)",
        }
    )

    mode: str
    cache: str
    engine: str
    attention: str
    habit: str = "none"
    compile_mode: str | None = None  # of engine compiled
    bucket: int | None = figure(
        "bucket", "tokens", "none", "Passes without a cache are padded to multiples of it.", default=None
    )
    cache_tokens: int | None = figure(
        "length of a static cache", "tokens", "none", "Length that was asked for.", default=None
    )
    cold: Cold
    ttft_s: Estimate = figure(
        "TTFT",
        "s",
        "lower",
        "Time to first token: submit to first new token on the device, mean over a block's batches; median of blocks.",
        "speed",
    )
    itl_s: Estimate = figure(
        "ITL",
        "s",
        "lower",
        "Inter-token latency: mean time of a decode step within a block, throughput lane; median over blocks.",
        "speed",
    )
    decode_tokens_per_s: Estimate = figure(
        "decode tokens/s",
        "tokens/s",
        "higher",
        "New tokens after the first of every sequence ÷ decode time, throughput lane; median over blocks.",
        "speed",
    )
    end_to_end_tokens_per_s: Estimate = figure(
        "end-to-end tokens/s",
        "tokens/s",
        "higher",
        "All new tokens ÷ (TTFT + decode time), throughput lane; median over blocks.",
        "speed",
    )
    itl_percentiles_s: TokenPercentiles
    padding_share: float | None = figure(
        "padding to buckets",
        "ratio",
        "lower",
        "Tokens that decode steps without a past submit ÷ those that they need, minus 1; 0 at exact lengths.",
        "proof",
        default=None,
    )
    step_lane_cost: float | None = figure(
        "cost of timing every step",
        "ratio",
        "none",
        "Decode time of the per-token lane ÷ that of the throughput lane, minus 1.",
        "single steps",
    )
    # Records of before token confidence lack the field.
    trace_cost: float | None = figure(
        "cost of token confidence",
        "ratio",
        "none",
        "Decode time of the lane that traces token confidence ÷ that of the throughput lane, minus 1.",
        "single steps",
        default=None,
    )
    memory: Memory
    memory_by_context: tuple[MemoryPoint, ...]
    energy: Energy
    limit: Limit
    tokens: tuple[tuple[int, ...], ...] = figure(
        "new tokens", "index", "none", "Ids of the new tokens, a list per sequence."
    )
    texts: tuple[str, ...]
    finish_reason: tuple[str, ...]
    proof: ProofResult
    turns: tuple[Turn, ...] = ()
    outlier_blocks: tuple[int, ...] = figure(
        "outlying blocks", "index", "none", "Blocks whose ITL stands out; labelled, never left out.", default=()
    )

    @property
    def prepares(self) -> bool:
        """Whether compiling or capturing is part of its first visit; `generate` does not tell how long it took."""
        return self.engine != EAGER


class Comparison(Part):
    """A candidate arm against the baseline arm of the same run; arms are indices into `arms`."""

    WHY_NULL = MappingProxyType(
        {
            "break_even_context": "one length was measured: experiment=scaling measures several",
            "extra_memory_bytes": "the peak of memory of one of the arms is not known",
        }
    )

    baseline_arm: int = figure("baseline", "index", "none", "Place of the baseline in the record's list of arms.")
    candidate_arm: int = figure("candidate", "index", "none", "Place of the candidate in the record's list of arms.")
    speedup: Speedup = figure(
        "decode speed-up", "times", "higher", "Decode speed of the candidate over the baseline's."
    )
    end_to_end_speedup: Speedup = figure(
        "end-to-end speed-up", "times", "higher", "End-to-end speed of the candidate over the baseline's."
    )
    extra_memory_bytes: int | None = figure(
        "extra memory", "bytes", "lower", "Peak allocated of the candidate less the baseline's."
    )
    break_even_context: int | None = figure(
        "break-even", "tokens", "lower", "Context length from which the candidate's step is the faster one."
    )
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

    prompt_tokens: tuple[int, ...] = figure("prompt", "tokens", "none", "Tokens of each prompt.")
    new_tokens: int = figure("new tokens", "tokens", "none", "New tokens of every sequence.")
    batch_size: int = figure("batch", "count", "none", "Sequences decoded together.")
    prompt_sha256: str


class HostSample(SeriesPoint):
    """Memory seen by the parent from outside the measured process."""

    WHY_NULL = MappingProxyType({"*": "device_used_bytes needs NVML and its device, process_rss_bytes a living worker"})

    elapsed_s: float = figure("elapsed", "s", "none", "Since the run began.")
    phase: str
    process_rss_bytes: int | None = figure(
        "process memory (RSS)", "bytes", "lower", "Resident memory of the measured process."
    )
    device_used_bytes: int | None = figure(
        "device memory in use", "bytes", "lower", "In use on the whole device by every process."
    )


class FlopsCheck(Part):
    """Predicted FLOPs of one prefill beside those that torch's counter sees under eager attention."""

    WHY_NULL = MappingProxyType({"predicted": NO_COSTS})

    batch: int = figure("batch", "count", "none", "Sequences of the prefill.")
    tokens: int = figure("prompt", "tokens", "none", "Tokens of each sequence.")
    predicted: int | None = figure("predicted", "FLOP", "none", "By the formula.")
    counted: int | None = figure("counted", "FLOP", "none", "By torch's counter.")


class RunRecord(Part):
    """One run. A run that did not end holds what was known by then; `status` and `status_reason` say how it ended."""

    WHY_NULL = MappingProxyType(
        {
            "model": "the run ended before the model was known",
            "workload": "the run ended before the prompts were known",
            "shapes": "the run ended before the shapes were known",
            "stopping": "the run ended before its stopping rule did",
            "comparison": "one arm: there is nothing to compare",
            **{f"environment/{name}": "the run is not on such a device" for name in OF_A_DEVICE},
            **{f"environment/{name}": NO_PROCESSES for name in ("device_processes", "other_device_processes")},
            **{f"environment/git_{name}": "kvbench does not run from a git checkout" for name in ("commit", "dirty")},
            "environment/*": "the machine does not tell",
            "model/*": "not stated by the model's configuration",
            "device_during": "the device has no sensors, or the run ended before its first block",
            "growth": "context lengths were not varied within this run: experiment=scaling does",
            "frontier": "the largest sizes were not looked for: experiment=frontier does",
            "ceilings": NO_CEILINGS,
            "flops_check": "the run ended before it",
            "host_checks": "the run ended before its blocks began",
            "sweep_audit": "the run is not the first point of a sweep measured again (audit=true)",
        }
    )

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
