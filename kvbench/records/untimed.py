"""What is learnt of an arm while nobody times it: its tokens, its memory, its certainty, what its steps consist of."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from kvbench.records.evidence import Reconciliation
from kvbench.records.part import Part, SeriesPoint, figure
from kvbench.records.proposals import Proposals, SharedPrefix

ATTENTION_WORDS = ("sdpa", "fmha", "flash", "attention")


class KernelShare(Part):
    """A kernel by its name, and its share of the time in which the device computes."""

    name: str
    share: float = figure("share", "ratio", "none", "Of the time in which the device computes.")


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


class RankFigures(Part):
    """One of the processes that hold a model together: its part of weights and cache, and whether it wrote the same."""

    WHY_NULL = MappingProxyType(
        {
            "device_uuid": "the rank is not on an NVIDIA device",
            "weights_predicted_bytes": "the plan of this architecture has a part whose share is not predicted",
            "*": "torch keeps no allocator statistics on this device, or the device does not tell",
        }
    )

    rank: int = figure("rank", "index", "none", "Number of the process, from 0.")
    device: str
    device_uuid: str | None = None
    weights_bytes: int | None = figure("weights", "bytes", "lower", "Bytes of the parameters that the rank holds.")
    weights_predicted_bytes: int | None = figure(
        "weights, predicted", "bytes", "none", "From the shapes and the plan: what is cut, divided by the ranks."
    )
    kv_cache_bytes: int | None = figure("KV cache, walked", "bytes", "lower", "Bytes of the rank's part of the cache.")
    kv_cache_predicted_bytes: int | None = figure(
        "KV cache, predicted", "bytes", "none", "The whole cache's predicted bytes, divided by the ranks."
    )
    peak_allocated_bytes: int | None = figure(
        "peak allocated", "bytes", "lower", "Highest mark of torch's allocator in the rank's untimed pass."
    )
    peak_reserved_bytes: int | None = figure(
        "peak reserved", "bytes", "lower", "Highest mark of what the allocator took from the rank's device."
    )
    device_used_bytes: int | None = figure(
        "device memory in use", "bytes", "lower", "In use on the rank's device by every process."
    )
    process_rss_bytes: int | None = figure(
        "process memory (RSS)", "bytes", "lower", "Resident memory of the rank's process."
    )
    same_tokens: bool
    steps_checked: int = figure("passes checked", "count", "none", "Forward passes of the rank that were checked.")
    violations: int = figure("wrong passes", "count", "lower", "Of those, the ones that received something else.")


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


@dataclass(frozen=True)
class Proof:
    """Whether every step submitted what its mode promises."""

    steps_checked: int
    violations: int
    first_violation: str | None = None
    resubmitted: int = 0  # of the violations, passes after the first that submitted the whole context to a mode's past
    unseen: tuple[str, ...] = ()  # what could not be looked at, in words


@dataclass(frozen=True)
class UntimedPass:
    """What one arm produced and held when nobody was timing."""

    arm: int
    tokens: tuple[tuple[int, ...], ...]  # new ids per sequence in prompt order
    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...]  # "stop" or "length"
    tokens_sha256: tuple[str, ...]  # per batch
    memory: Memory
    memory_by_step: tuple[MemoryPoint, ...]
    proof: Proof
    text_ends: tuple[int, ...] = ()  # characters of each text before its first end token
    proposals: Proposals | None = None  # of a mode whose passes check proposed tokens
    prefix: SharedPrefix | None = None  # of a mode that computes a common beginning once
    ranks: tuple[RankFigures, ...] = ()  # of a model that is shared out over several; `memory` is their sum


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
class StepWork:
    """What a decode step of one arm is made of, from an untimed run under a profiler; means over steps and batches.

    `device_busy_s` is the time in which the device computes, without the gaps in which it waits for the host; None
    where the host computes itself. `operations` are kernels on a device, operators of the tensor library on the host.
    `kernels` are those that take most of that time, and the attention that takes most, by name and share of it.
    `communication_s` is what exchanging tensors between ranks takes, of the rank that waits least for the others; None
    for a model on one device.
    """

    arm: int
    operations: float | None
    device_busy_s: float | None
    reason: str | None = None  # why something of it is None
    kernels: tuple[KernelShare, ...] = ()
    communication_s: float | None = None


@dataclass(frozen=True)
class CountedFlops:
    """FLOPs of one prefill as torch's counter sees them under eager attention; None with the reason.

    `weights` are the parts of the weights by what that pass did with them (`models.weights_read`); None where it could
    not be watched.
    """

    batch: int
    tokens: int
    flops: int | None
    reason: str | None = None
    weights: dict[str, dict[str, int]] | None = None


def is_attention(kernel: str) -> bool:
    """Whether a kernel computes attention in one piece, such as `cudnn_generated_fort_native_sdpa_sm90_…`."""
    return any(word in kernel.lower() for word in ATTENTION_WORDS)


def is_exchange(kernel: str) -> bool:
    """Whether a kernel, or an event of the host, exchanges tensors between ranks, such as `gloo:all_reduce`."""
    return kernel.startswith("gloo:") or "nccl" in kernel.lower()


def is_cudnn_attention(kernel: str) -> bool:
    """Whether it is cuDNN's, which is compiled and planned for the shapes at hand."""
    return is_attention(kernel) and "cudnn" in kernel.lower()


@dataclass(frozen=True)
class EnergyWindow:
    """The device's energy counter over repeated generations of one arm; `joules` is None with a reason."""

    arm: int
    joules: float | None
    window_s: float | None
    new_tokens: int
    idle_watts: float | None
    reason: str | None = None
    device_joules: tuple[float, ...] = ()  # of several devices each one's
