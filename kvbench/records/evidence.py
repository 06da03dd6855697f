"""Parts of a record that let a sceptic check the rest: where memory and time went, and what was tried to fool it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from kvbench.records.part import Part, Speedup

HOST_FIGURES = {"launch_s": "small operation", "product_s": "small matrix product", "read_s": "read of 32 MiB"}
SweepVerdict = Literal["SAME", "FASTER", "SLOWER", "AMBIGUOUS"]


class LengthProbe(Part):
    """A few steps at context lengths that an attention had not seen in its process, twice in a row.

    What the first time costs more than the second is paid for new lengths; `*_itl_s` are medians over the few steps,
    which one hiccup of the host would else decide. Allocations are those that torch's allocator
    made on the device, `driver_bytes` what the device's memory grew by outside of it (kernel code, plans).
    """

    WHY_NULL = MappingProxyType({"*": "told by torch's allocator and the device's sensors on a GPU only"})

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


class Reconciliation(Part):
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


class DeviceDuring(Part):
    """What the device's sensors said before and after the blocks."""

    WHY_NULL = MappingProxyType({"*": "the device does not tell"})

    sm_clock_mhz_min: int | None
    sm_clock_mhz_max: int | None
    power_w_max: float | None
    temperature_c_max: int | None
    limited_blocks: dict[str, int]  # cause that held the clock down -> blocks that it touched
    throttled_blocks: tuple[int, ...]  # indices, in blocks.jsonl
    repeated_blocks: tuple[int, ...]  # those of them that another block stands for


class Phase(Part):
    """How long one phase of the run took."""

    name: str
    seconds: float


class Audit(Part):
    """One test of the instrument on this run. `passed` is null where the figure is for information."""

    WHY_NULL = MappingProxyType({"passed": "a cost, told for information", "ratio": "not a matter of times"})

    name: str
    arm: int
    passed: bool | None
    ratio: Speedup | None
    detail: str


class HostCheck(Part):
    """Times of small pieces of work that every run and `doctor --ceilings` measure in the same way.

    `launch_s` is the host's time for one small operation: submitting it on a GPU, computing it on a CPU. A small matrix
    product and reading a few MiB of memory are timed on a CPU only.
    """

    WHY_NULL = MappingProxyType({"*": "measured on a CPU: on a GPU the host launches, no more"})

    launch_s: float | None = None
    product_s: float | None = None
    read_s: float | None = None


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

    arm: int
    itl_ratio: float | None
    ci_low: float | None
    ci_high: float | None
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
