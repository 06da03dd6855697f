"""One forward pass as the hooks see it, and what happened between it and the pass before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

# Made between two steps of somebody's loop: plain classes whose fields have defaults, so that only what differs is set.


class Gap:
    """What the script did since the last pass: with values on the model's device, with text, types and devices."""

    reads: int = 0  # values that the script itself read to the host
    library_reads: int = 0  # the same inside transformers and torch, such as generate's look at the stop tokens
    looked: bool = False  # whether moves and casts were looked at in this gap
    moves: int = 0  # tensors that the script sent to another device
    casts: int = 0  # tensors that the script changed in type
    decoded: int = 0  # tokens that a tokenizer made text of
    decodes: int = 0
    encodes: int = 0  # texts that a tokenizer made tokens of


@dataclass(slots=True)
class GenerateCall:
    """A call of `generate`, by what decides how it decodes."""

    number: int
    beams: int = 1
    assisted: bool = False
    use_cache: bool | None = None  # as asked for in the call or in the model's settings
    site: str | None = None


class SeenPass:
    """One outermost forward pass.

    Lengths are tokens per sequence. `past` may be a tensor on the device until the watch has ended, `ids` a copy of
    the submitted ids (batch, submitted), of passes that may begin a text; `events` two CUDA events.
    Times are of `time.perf_counter`.
    """

    began: float
    gap: Gap
    rows: int = 1
    submitted: int = 0
    past: Any = 0  # tokens in the cache that was handed in; None where it could not be told
    cache: int | None = None  # the number of the cache object that was handed in
    cache_class: str | None = None
    cache_argument: str | None = None
    returned: int | None = None  # the number of the cache object that came back
    mask_length: int | None = None
    logits_shape: Sequence[int] = ()
    logits_item_bytes: int = 0
    gradients: bool = False
    training_mode: bool = False
    labels: bool = False
    backward: bool = False
    takes_cache: bool = True  # whether the module has an argument for a cache
    through: int = 0  # which of the watched modules was called: 0 is the one that was named
    computed: int | None = None  # positions that the weights really met, where the inside was looked at
    call: GenerateCall | None = None
    site: str | None = None
    ids: Any = None
    events: tuple[Any, Any] | None = None
    ended: float | None = None  # None: it raised
    device_s: float | None = None
    inside_reads: int = 0

    @property
    def logits_positions(self) -> int | None:
        """Positions with logits, per sequence: all that were submitted, or the last alone."""
        shape = self.logits_shape
        return None if not shape else shape[-2] if len(shape) > 2 else 1

    @property
    def logits_bytes(self) -> int:
        """Bytes of the logits."""
        return prod(self.logits_shape) * self.logits_item_bytes if self.logits_shape else 0

    @property
    def seconds(self) -> float:
        """In the model: on the device where its events tell it, else on the host's clock."""
        if self.device_s is not None:
            return self.device_s
        return 0.0 if self.ended is None else self.ended - self.began


@dataclass(frozen=True)
class WatchedModel:
    """What is known of the model beside its passes."""

    name: str
    dtype: str
    device: str
    cache_argument: str | None  # the name under which it takes a cache
    keeps_logits: bool  # whether it has transformers' `logits_to_keep`
    is_transformers: bool
    dropout: bool = False  # whether it has any, which training mode turns on
    checkpointing: bool = False  # whether it drops activations in training mode, beside which it keeps no cache
    wrapper: str | None = None  # torch.compile's or PEFT's, where the model was handed over inside one


@dataclass(frozen=True)
class Observation:
    """All that a watch has seen, on the host, before anything is judged."""

    model: WatchedModel
    passes: tuple[SeenPass, ...]
    read_sites: Mapping[tuple[str, str], int]  # (method, file:line) to how often
    move_sites: Mapping[tuple[str, str], int]
    cast_sites: Mapping[tuple[str, str], int]
    wall_s: float
    cost_s: float
