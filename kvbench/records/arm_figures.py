"""The figures of one arm in a record: first visit, single steps, energy, limits, interruptions, and the pass check."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Literal

from kvbench.records.ceilings import NO_CEILINGS
from kvbench.records.evidence import LengthProbe
from kvbench.records.part import Estimate, Measured, Part, figure
from kvbench.records.untimed import KernelShare


class Cold(Part):
    """The first visit of an arm: `step_s` are its decode steps per batch, each at a length never seen before.

    `compile_s` of it went to compiling and capturing, which an engine does once for each shape; `probes` tell what else
    it paid for, where it cost much more than a warm one.
    """

    WHY_NULL = MappingProxyType(
        {
            "compile_s": "eager execution compiles nothing and captures nothing",
            "probes": "the run ended before there was a warm generation to hold the first one against",
            "*": "the run ended before the first generation",
        }
    )

    ttft_s: float | None = figure(
        "TTFT, first generation",
        "s",
        "lower",
        "TTFT of the arm's very first generation in this process; reported separately, not part of the averages.",
        "first generation",
        column="cold_ttft_s",
    )
    itl_s: float | None = figure(
        "ITL, first generation",
        "s",
        "lower",
        "Mean decode step of the arm's very first generation; reported separately, not part of the averages.",
        "first generation",
        column="cold_itl_s",
    )
    load_s: float | None = figure(
        "model load", "s", "lower", "From opening the weights to a model ready on its device.", "first generation"
    )
    compile_s: float | None = figure(
        "compilation",
        "s",
        "lower",
        "Time of the first generation that went to compiling or capturing, once for each shape.",
        "first generation",
    )
    step_s: tuple[tuple[float, ...], ...] = figure(
        "decode steps, first generation",
        "s",
        "lower",
        "Each step of the first generation, a list per batch.",
        default=(),
    )
    probes: tuple[LengthProbe, ...] | None = None


def _percentile(rank: int) -> Any:
    computed = f"{rank}th percentile over decode steps that were timed one by one; descriptive, steps are correlated."
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
        "Decode steps that were timed one by one.",
        "single steps",
        column="itl_tokens",
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
    device_joules_per_token: tuple[float, ...] = figure(
        "energy per token by device",
        "J/token",
        "lower",
        "Of several devices each one's, in the order of the ranks; they add up to the whole.",
        default=(),
    )


Bound = Literal["launch", "memory", "compute", "first-visit"]


class Limit(Part):
    """How far a decode step of an arm is from what the machine could do, means over the run's steps.

    The floor is the longer of reading `bytes` and of computing `flops` at the machine's measured ceilings. MBU is
    bytes, MFU flops a second over those ceilings, causal attention counted. `launch_s` is the time in which the device
    waits for the host; where the host computes itself, the time of submitting that many small operations.
    """

    WHY_NULL = MappingProxyType(
        {
            "bound": f"{NO_CEILINGS}; or they lack the model's type, or the step was not profiled",
            "communication_s": "the model is on one device, or its steps were not profiled",
            "*": f"{NO_CEILINGS}; or they lack the model's type",
        }
    )

    floor_s: float | None = figure(
        "hardware limit of a step",
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
        "host overhead per step",
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
    communication_s: float | None = figure(
        "communication of a step",
        "s",
        "lower",
        "Time of a decode step in which ranks exchange tensors, of the rank that waits least for the others.",
        default=None,
    )
    kernels: tuple[KernelShare, ...] = ()  # the three that take most of device_busy_s, and the first attention
    prefill_floor_s: float | None = figure(
        "hardware limit of a prefill",
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
        "passes checked",
        "count",
        "none",
        "Forward passes that were checked to receive the tokens and the cache length that their mode requires.",
        "pass check",
        column="proof_steps_checked",
    )
    violations: int = figure(
        "wrong passes",
        "count",
        "lower",
        "Of those, the ones that received something else; one is enough to make the run INVALID.",
        "pass check",
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
        "From the interruption to the first token after it, every step timed by itself.",
    )
    paid_back_after_tokens: int | None = figure(
        "paid back after",
        "tokens",
        "lower",
        "New tokens after which rebuilding has cost less than going on without a cache.",
    )
