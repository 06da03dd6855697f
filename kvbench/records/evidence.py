"""Parts of a record that let a sceptic check the rest: where memory and time went, and what was tried to fool it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from kvbench.records.part import Part, SeriesPoint, Speedup, figure

SweepVerdict = Literal["SAME", "FASTER", "SLOWER", "AMBIGUOUS"]


class LengthProbe(Part):
    """A few steps at context lengths that an attention had not seen in its process, twice in a row.

    What the first time costs more than the second is paid for new lengths; `*_itl_s` are medians over the few steps,
    which one hiccup of the host would else decide. Allocations are those that torch's allocator
    made on the device, `driver_bytes` what the device's memory grew by outside of it (kernel code, plans).
    """

    WHY_NULL = MappingProxyType({"*": "told by torch's allocator and the device's sensors on a GPU only"})

    attention: str
    context_length: int = figure("context", "tokens", "none", "Tokens visible to the first step.")
    steps: int = figure("steps", "count", "none", "Decode steps of each time.")
    first_ttft_s: float = figure("TTFT, first time", "s", "lower", "Prefill at a length not seen before.")
    second_ttft_s: float = figure("TTFT, second time", "s", "lower", "The same again.")
    first_itl_s: float = figure("ITL, first time", "s", "lower", "Median decode step at lengths not seen before.")
    second_itl_s: float = figure("ITL, second time", "s", "lower", "The same again.")
    first_allocations: int | None = figure(
        "allocations, first time", "count", "lower", "Made by torch's allocator on the device."
    )
    second_allocations: int | None = figure("allocations, second time", "count", "lower", "The same again.")
    first_driver_bytes: int | None = figure(
        "driver's memory, first time", "bytes", "lower", "By which the device's memory grew outside of the allocator."
    )
    second_driver_bytes: int | None = figure("driver's memory, second time", "bytes", "lower", "The same again.")


class Reconciliation(Part):
    """Where the device's memory went at the end of an arm's untimed pass, in bytes.

    weights + cache + step peak + allocator slack is what torch's allocator had reserved; with the device context, the
    kernels and what is elsewhere it should be what NVML reports. The rest is `unexplained_bytes`, of either sign.
    """

    weights_bytes: int = figure(
        "weights", "bytes", "lower", "Bytes of the model's parameters and buffers, tied ones once."
    )
    kv_cache_bytes: int = figure("KV cache, storage", "bytes", "lower", "Bytes of the storages behind the cache.")
    step_peak_bytes: int = figure(
        "step peak",
        "bytes",
        "none",
        "Peak allocated less weights and cache: activations, prompts and workspaces of a step.",
        "memory",
    )
    allocator_slack_bytes: int = figure(
        "allocator slack",
        "bytes",
        "none",
        "Peak reserved less peak allocated: taken from the device and never in use at once.",
        "memory",
    )
    device_context_bytes: int = figure(
        "device context",
        "bytes",
        "none",
        "What starting CUDA took on the device, before anything was loaded.",
        "memory",
    )
    kernels_bytes: int = figure(
        "kernels and plans",
        "bytes",
        "none",
        "What came to be outside the allocator before the pass: kernel code, plans, library handles.",
        "memory",
    )
    elsewhere_bytes: int = figure(
        "elsewhere",
        "bytes",
        "none",
        "In use on the device before this process touched it: its driver, other processes.",
        "memory",
    )
    device_used_bytes: int = figure(
        "device memory in use",
        "bytes",
        "lower",
        "In use on the whole device by every process, as its driver reports it.",
    )
    unexplained_bytes: int = figure(
        "unexplained", "bytes", "none", "Device memory in use less all of the above, weights and cache.", "memory"
    )


class DeviceDuring(Part):
    """What the device's sensors said before and after the blocks."""

    WHY_NULL = MappingProxyType({"*": "the device does not tell"})

    sm_clock_mhz_min: int | None = figure(
        "lowest clock", "MHz", "higher", "Lowest clock of the device's processors before and after blocks."
    )
    sm_clock_mhz_max: int | None = figure(
        "highest clock", "MHz", "higher", "Highest clock of the device's processors before and after blocks."
    )
    power_w_max: float | None = figure("highest power", "W", "lower", "Highest power before and after blocks.")
    temperature_c_max: int | None = figure(
        "highest temperature", "°C", "lower", "Highest temperature before and after blocks."
    )
    limited_blocks: dict[str, int] = figure(
        "limited blocks", "count", "lower", "Blocks that each cause which held the clock down has touched."
    )
    throttled_blocks: tuple[int, ...] = figure("throttled blocks", "index", "none", "In blocks.jsonl.")
    repeated_blocks: tuple[int, ...] = figure(
        "repeated blocks", "index", "none", "Throttled blocks that another block stands for."
    )


class Phase(Part):
    """How long one phase of the run took."""

    name: str
    seconds: float = figure("duration", "s", "lower", "How long the phase took.")


class Audit(Part):
    """One test of the instrument on this run. `passed` is null where the figure is for information."""

    WHY_NULL = MappingProxyType({"passed": "a cost, told for information", "ratio": "not a matter of times"})

    name: str
    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    passed: bool | None
    ratio: Speedup | None = figure("ratio of times", "times", "none", "With what the audit adds, over without it.")
    detail: str


class HostCheck(Part):
    """Times of small pieces of work that every run and `doctor --ceilings` measure in the same way.

    `launch_s` is the host's time for one small operation: submitting it on a GPU, computing it on a CPU. A small matrix
    product and reading a few MiB of memory are timed on a CPU only.
    """

    WHY_NULL = MappingProxyType({"*": "measured on a CPU: on a GPU the host launches, no more"})

    launch_s: float | None = figure(
        "small operation", "s", "lower", "Time of submitting it on a GPU, of computing it on a CPU.", default=None
    )
    product_s: float | None = figure("small matrix product", "s", "lower", "Its time on a CPU.", default=None)
    read_s: float | None = figure("read of 32 MiB", "s", "lower", "Its time on a CPU.", default=None)


HOST_FIGURES = {name: str(field.title) for name, field in HostCheck.model_fields.items()}


class HostChecks(Part):
    """The host before the first block and after the last one."""

    WHY_NULL = MappingProxyType({"after": "the run ended before its blocks did"})

    before: HostCheck | None = None
    after: HostCheck | None = None


class ArmRepeated(Part):
    """One arm's ITL at the end of the sweep over that at its beginning: above 1 it became slower.

    The interval is the widest that the two runs' own intervals allow. FASTER and SLOWER are of the end; AMBIGUOUS is
    also what lacks an interval.
    """

    WHY_NULL = MappingProxyType({"*": "one of the two runs has no such figure; an interval needs 6 blocks"})

    arm: int = figure("arm", "index", "none", "Place in the record's list of arms.")
    itl_ratio: float | None = figure(
        "ITL at the end", "times", "lower", "Of the sweep, over that at its beginning: above 1 it became slower."
    )
    ci_low: float | None = figure(
        "interval, lower end", "times", "none", "Of the widest interval that those of the two runs allow."
    )
    ci_high: float | None = figure(
        "interval, upper end", "times", "none", "Of the widest interval that those of the two runs allow."
    )
    verdict: SweepVerdict


class SweepAudit(Part):
    """This run against the first one of its sweep; `held_still` is None where that cannot be told of every arm."""

    WHY_NULL = MappingProxyType(
        {"held_still": "the intervals of the two runs do not tell, its detail says of which arms"}
    )

    first_run_id: str
    held_still: bool | None
    detail: str
    arms: tuple[ArmRepeated, ...]


class Sentence(Part):
    """One plain sentence, the kind of finding that it is, and the JSON pointers of the figures that it rests on."""

    code: str
    text: str
    evidence: tuple[str, ...]


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


class RunWarning(Part):
    """Something a reader should know that does not invalidate the run."""

    code: str
    detail: str


class Stopping(Part):
    """The stopping rule declared before the run, and why it ended."""

    rule: str
    reason: str
