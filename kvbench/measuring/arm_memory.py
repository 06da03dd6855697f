"""What one arm held in memory, and where the memory of the device went."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    kv_cache_host_bytes: int = 0  # of kv_cache_bytes those that wait on the host, of an offloaded cache
    null_reasons: dict[str, str] = field(default_factory=dict)  # field name -> why it is None


@dataclass(frozen=True)
class MemoryAtStep:
    """Memory after one step of the untimed pass; `context_length` counts prompt and new tokens so far."""

    context_length: int
    kv_cache_bytes: int | None
    allocated_bytes: int | None
