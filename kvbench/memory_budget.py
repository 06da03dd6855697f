"""How much memory a size needs, and the largest that a budget holds, from the model's facts alone.

What lives at the same moment was read off transformers' decoders (5.17 to 5.23), tensor by tensor, for T = rows times
submitted tokens, "seen" with the past before them, and elements of the model's type:

    MLP        T · (3 · intermediate + 4 · hidden)    gate, up and their product; embeddings, the layer's input, the
                                                      residual after attention, its norm
    attention  T · (3 · hidden + 4 · queries + keys + values)    queries while they are rotated
    repeats    2 · rows · seen · queries              of grouped keys and values, on a past and so under a mask
    scores     3 · rows · heads · submitted · seen    where attention is written out (eager, math)
    mask       submitted · seen                       bytes, and as many elements, beyond a sliding window or a chunk
    logits     rows · vocabulary                      of the positions asked for; of every one with the habit all_logits
    cache      as `kv_cache_bytes`; a step also holds one layer's old keys beside the new ones
    GEMM       T · intermediate                       on the CPU: what its library packs and keeps

Weights and cache stay; of the rest the largest moment counts. Left out: the allocator's slack, plans and workspaces of
a GPU's libraries, activations that are written out in several operations (GPT-2's), the routing of experts.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvbench.arm import Arm
from kvbench.cache_sizes import cache_bytes
from kvbench.capabilities import CACHES, habits_of
from kvbench.model_facts import DTYPE_BYTES, ModelFacts, kv_cache_bytes

ID_BYTES = 16  # a token's id and position
WRITTEN_OUT = ("eager", "math")
BEYOND_ANY = 1 << 40  # a size that nothing holds: where no memory is needed per token, there is no edge to predict


@dataclass(frozen=True)
class Decoding:
    """What of an arm and its surroundings decides its memory."""

    arm: Arm
    attention: str  # the arm's own, with "auto" resolved
    new_tokens: int
    on_host: bool
    chunk: int | None = None  # tokens of a pass that fills the cache; None: the whole prompt

    @property
    def _habits(self) -> frozenset[str]:
        return habits_of(self.arm.mode, self.arm.habit)

    @property
    def predictable(self) -> bool:
        """Whether the formula holds: a graph for a backward pass keeps far more."""
        return "autograd" not in self._habits

    @property
    def builds_cache(self) -> bool:
        """Whether a pass leaves keys and values behind, kept or not."""
        return self.arm.keeps_past or "dropped_cache" in self._habits

    @property
    def all_logits(self) -> bool:
        """Whether logits of every position are computed."""
        return "all_logits" in self._habits


def peak_bytes(facts: ModelFacts, decoding: Decoding, rows: int, context: int) -> int | None:
    """Bytes in use at the fullest moment of decoding until the last pass sees `context` tokens; None if not known."""
    width = DTYPE_BYTES.get(facts.dtype or "")
    dense, kv = kv_cache_bytes(facts, rows, context), _held_bytes(facts, decoding, rows, context)
    known = (facts.weight_bytes, facts.hidden_size, facts.head_dim, facts.attention_heads, facts.vocab_size)
    if width is None or dense is None or kv is None or None in known or not decoding.predictable:
        return None
    seen = context - decoding.new_tokens + 1 if decoding.arm.keeps_past else context
    submitted = min(seen, decoding.chunk or seen) if decoding.arm.keeps_past else seen
    moment = _pass_bytes(facts, decoding, rows, submitted, seen) * width + _mask_bytes(facts, submitted, seen, width)
    cache = kv if decoding.builds_cache else 0
    step = _step_bytes(decoding.arm, dense // max(1, len(facts.layer_types)))
    return (facts.weight_bytes or 0) + cache + max(moment, step) + ID_BYTES * rows * context


def largest(facts: ModelFacts, decoding: Decoding, budget_bytes: int, axis: str, fixed: int) -> int | None:
    """The largest context at `fixed` sequences, or batch at `fixed` tokens of context, within a budget.

    `axis` is "context" or "batch". 0 where nothing fits, None where the need is not known or does not grow.
    """

    def fits(size: int) -> bool:
        rows, context = (fixed, size) if axis == "context" else (size, fixed)
        needed = peak_bytes(facts, decoding, rows, context)
        return needed is not None and needed <= budget_bytes

    least = decoding.new_tokens if axis == "context" else 1
    if peak_bytes(facts, decoding, 1, decoding.new_tokens) is None or fits(BEYOND_ANY):
        return None
    if not fits(least):
        return 0
    low, high = least, BEYOND_ANY
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _held_bytes(facts: ModelFacts, decoding: Decoding, rows: int, context: int) -> int | None:
    """Bytes of the cache where the model computes; of one on the host the two layers that are at the device."""
    arm, prompt = decoding.arm, context - decoding.new_tokens + 1
    if not arm.keeps_past:
        return kv_cache_bytes(facts, rows, context)
    length = arm.static_cache_length(context) if arm.is_static else None
    held = cache_bytes(facts, arm.cache, rows, context, prompt=prompt, length=length, windows=arm.has_windows)
    if held is not None and arm.cache in CACHES and CACHES[arm.cache].offloaded:
        return 2 * held // max(2, len(facts.layer_types))
    return held


def _step_bytes(arm: Arm, layer: int) -> int:
    """What a step holds besides: a layer's old keys, or all of it twice where it is read out of codes and joined."""
    if not arm.keeps_past or arm.is_static:
        return 0
    return 2 * layer if arm.is_lossy else layer // 2


def _pass_bytes(facts: ModelFacts, decoding: Decoding, rows: int, submitted: int, seen: int) -> int:
    """Elements at the fullest moment of one pass, besides weights, cache and masks."""
    tokens = rows * submitted
    hidden, heads, head_dim = facts.hidden_size or 0, facts.attention_heads or 0, facts.head_dim or 0
    intermediate = (facts.intermediate_size or 4 * hidden) * (facts.experts_per_token or 1)
    keys_and_values = 2 * (facts.kv_heads or heads) * head_dim
    rotations = 2 * submitted * head_dim
    mlp = tokens * (3 * intermediate + 4 * hidden)
    attention = tokens * (3 * hidden + 4 * heads * head_dim + keys_and_values)
    if submitted < seen and facts.kv_heads != heads:  # under a mask keys and values are repeated for every head
        attention += 2 * rows * seen * heads * head_dim
    if decoding.attention in WRITTEN_OUT:
        attention += 3 * rows * heads * submitted * seen
    logits = (tokens if decoding.all_logits else rows) * (facts.vocab_size or 0) + 2 * tokens * hidden
    packed = tokens * intermediate if decoding.on_host else 0
    return max(mlp, attention, logits) + rotations + packed


def _mask_bytes(facts: ModelFacts, submitted: int, seen: int, width: int) -> int:
    """Where a past lies before the tokens, or a window does not reach the first one, a pass takes a mask of its own."""
    reaches_all = facts.sliding_window is None or seen <= facts.sliding_window
    return 0 if reaches_all and submitted == seen else submitted * seen * (1 + width)
