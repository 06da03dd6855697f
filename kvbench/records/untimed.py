"""What is learnt of an arm while nobody times it: its tokens, its memory, its certainty, what its steps consist of."""

from __future__ import annotations

from dataclasses import dataclass

from kvbench.records.schema import KernelShare, Memory, MemoryPoint

ATTENTION_WORDS = ("sdpa", "fmha", "flash", "attention")


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
    """

    arm: int
    operations: float | None
    device_busy_s: float | None
    reason: str | None = None  # why something of it is None
    kernels: tuple[KernelShare, ...] = ()


@dataclass(frozen=True)
class CountedFlops:
    """FLOPs of one prefill as torch's counter sees them under eager attention; None with the reason."""

    batch: int
    tokens: int
    flops: int | None
    reason: str | None = None


def is_attention(kernel: str) -> bool:
    """Whether a kernel computes attention in one piece, such as `cudnn_generated_fort_native_sdpa_sm90_…`."""
    return any(word in kernel.lower() for word in ATTENTION_WORDS)


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
