"""What a measurement hands over: raw samples and facts, as plain data without torch.

Every class here crosses the process boundary by pickle and lands in a run folder as JSON, so fields are plain
numbers, strings, lists and dicts. Units are in the names. `None` means unknown, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Visit:
    """One arm over one batch of prompts, from the prompt to the last new token.

    `decode_s` is host wall time between two synchronisations; `decode_device_s` the same span on the device's own
    timeline, and `decode_enqueue_s` the part of the wall time until the host had submitted the last step.
    """

    arm: int
    batch: int
    lane: str  # "throughput": no synchronisation between the steps; "steps": one mark per step
    ttft_s: float
    decode_s: float
    decode_device_s: float | None
    decode_enqueue_s: float
    sequences: int
    new_tokens: int  # summed over the sequences, the first ones included
    steps: int  # forward passes after the prefill
    step_s: tuple[float, ...] | None  # one per step in the "steps" lane
    tokens_sha256: str


@dataclass(frozen=True)
class Block:
    """One visit to every arm in random order, over every prompt batch and in every lane."""

    index: int
    order: tuple[int, ...]  # arms in the order they were visited
    started_at: str
    elapsed_s: float
    visits: tuple[Visit, ...]


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
    null_reasons: dict[str, str] = field(default_factory=dict)  # field name -> why it is None


@dataclass(frozen=True)
class Proof:
    """Whether every step submitted what its mode promises."""

    steps_checked: int
    violations: int
    first_violation: str | None = None


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
class ColdVisit:
    """The first visit of an arm: never averaged with the others."""

    arm: int
    ttft_s: float
    itl_s: float | None
    step_s: tuple[float, ...]


@dataclass(frozen=True)
class AgreementFigures:
    """Teacher-forced comparison of a candidate arm with the baseline on one token path.

    Differences are over the last position's logits of every step checked. `noise_abs` is the baseline's own difference
    when the same prefixes are computed with other batch and padding shapes: what rounding alone does here.
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


@dataclass(frozen=True)
class Prepared:
    """What the worker knows before the first measurement."""

    model: dict[str, Any]
    environment: dict[str, Any]
    prompts: tuple[dict[str, Any], ...]  # {"text", "token_ids"}
    batches: tuple[tuple[int, ...], ...]  # indices into prompts
    shapes: dict[str, Any]
    load_s: float


@dataclass(frozen=True)
class Measured:
    """A whole measurement; `blocks` reached the parent one by one as well."""

    cold: tuple[ColdVisit, ...]
    untimed: tuple[UntimedPass, ...]
    agreement: tuple[AgreementFigures, ...]
    blocks: tuple[Block, ...]
    stopping_reason: str
    warnings: tuple[dict[str, str], ...] = ()
