"""Parts of a record that let a sceptic check the rest: where memory and time went, and what was tried to fool it."""

from __future__ import annotations

from kvbench.records.part import Part, Speedup


class LengthProbe(Part):
    """A few steps at context lengths that an attention had not seen in its process, twice in a row.

    What the first time costs more than the second is paid for new lengths; `*_itl_s` are medians over the few steps,
    which one hiccup of the host would else decide. Allocations are those that torch's allocator
    made on the device, `driver_bytes` what the device's memory grew by outside of it (kernel code, plans).
    """

    attention: str
    context_length: int
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
    kv_cache_bytes: int
    step_peak_bytes: int
    allocator_slack_bytes: int
    device_context_bytes: int
    kernels_bytes: int
    elsewhere_bytes: int
    device_used_bytes: int
    unexplained_bytes: int


class DeviceDuring(Part):
    """What the device's sensors said before and after the blocks."""

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

    name: str
    arm: int
    passed: bool | None
    ratio: Speedup | None
    detail: str
