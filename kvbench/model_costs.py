"""What a pass, a cache and a size need in bytes and FLOPs, from the model's facts alone. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from kvbench.arm import Arm
from kvbench.cache_layers import DTYPE_BYTES, EMPTY, OTHER_ARITHMETIC, SHARED, YUAN, CacheLayers
from kvbench.capabilities import CACHES, RESIDUAL_TOKENS, CacheKind, group_size, habits_of
from kvbench.model_facts import ModelFacts, kv_cache_bytes
from kvbench.passes import Interruptions

# The bytes of each kind of cache, from the model's facts and what the cache has seen.
# Dynamic caches are `model_facts.kv_cache_bytes`, and an int64 with the window for a layer that has one. What the
# others hold was read off transformers' layers (5.17 to 5.24):
#
#     full        a dynamic one's, as if no layer had a window
#     static      what a dynamic one holds of `length` tokens, of min(length, window) where a layer has a window; one
#                 int64 for each layer that counts its tokens
#     quantised   the prompt, and of the tokens after it every whole `RESIDUAL_TOKENS`, as codes; each group of codes
#                 has a scale and a zero in the model's type; the rest in the model's type
#     fp8         every token in one byte an element; one float32 scale for a layer's keys and one for its values


COUNTER_BYTES = 8
SCALE_BYTES = 4  # of fp8
THREE_BIT_ROWS = 10  # hqq puts ten codes of three bits into an int32


def cache_bytes(
    facts: ModelFacts,
    kind: str,
    rows: int,
    tokens: int,
    *,
    prompt: int,
    length: int | None = None,
    windows: bool = True,
) -> int | None:
    """Logical bytes of a cache of `kind` that holds `tokens` tokens in each of `rows` sequences.

    Of them the first `prompt` came in one pass and the rest one by one, which quantised caches tell apart. `length` is
    a static cache's; without `windows` its layers are all as long as that. None where it is not known, for the reasons
    of `unknown_reason`. A kind that is not of `CACHES` is a model's own, taken for dynamic.
    """
    spec = CACHES.get(kind)
    if spec is None or not (spec.static or spec.lossy):
        kept = as_kept(facts, kind)
        dense = kv_cache_bytes(kept, rows, tokens)
        return None if dense is None else dense + COUNTER_BYTES * _int64s(kept)
    if unknown_reason(facts, kind) is not None:
        return None
    if spec.static:
        assert length is not None
        return _static_bytes(facts, rows, length, tokens, windows=windows)
    return _quantised_bytes(facts, spec, rows, tokens, prompt)


def unknown_reason(facts: ModelFacts, kind: str) -> str | None:
    """Why a cache of this kind has no predicted bytes, or None when it has."""
    if facts.kv_bytes_per_token is None:
        return facts.null_reasons.get("kv_bytes_per_token", "no formula for the cache of this architecture")
    return quantised_conflict(facts, kind)


def quantised_conflict(facts: ModelFacts, kind: str) -> str | None:
    """Why a quantised cache cannot hold this architecture's layers, or None when it can, or is of another kind."""
    spec = CACHES.get(kind)
    if spec is None or not spec.lossy:
        return None
    other = sorted(set(facts.layer_types) - {"full"})
    if other:
        return f"quantised caches hold layers of full attention, and this model has layers of type {', '.join(other)}"
    if facts.kv_bytes_per_token is None or facts.kv_heads is None or facts.head_dim is None:
        return facts.null_reasons.get("kv_bytes_per_token", "the shape of this model's keys is not known")
    if not _has_plain_keys(facts):
        return "quantised caches hold keys and values of one width, and this model's are latent or differ"
    if spec.backend != "fp8" and group_size(facts.kv_heads * facts.head_dim) is None:
        return f"its {facts.kv_heads * facts.head_dim} keys a token do not come in groups of 8 or more"
    return None


KEPT_WHOLE = frozenset({"full", "sliding", "chunked_attention", EMPTY, SHARED})  # kinds of layers


def keeps_all_conflict(facts: ModelFacts, kind: str) -> str | None:
    """Why a cache whose layers all keep every token is none for this model, or None when it is, or is another kind."""
    spec = CACHES.get(kind)
    if spec is None or spec.windows:
        return None
    if not facts.cache_layers:
        return facts.null_reasons.get("kv_bytes_per_token", "the layers of this model's cache are not known")
    other = sorted({each.kind for each in facts.cache_layers} - KEPT_WHOLE)
    if other:
        return f"it holds keys and values alone, and this model has layers of type {', '.join(other)}"
    if all(each.window is None for each in facts.cache_layers):
        return "no layer of this model has a window, so that a dynamic one keeps every token already"
    return None


def as_kept(facts: ModelFacts, kind: str) -> ModelFacts:
    """The model beside a kind of cache: without windows where that keeps, and hands over, every token all the same."""
    spec = CACHES.get(kind)
    if spec is None or spec.windows:
        return facts
    return replace(facts, cache_layers=tuple(replace(each, window=None) for each in facts.cache_layers))


def _has_plain_keys(facts: ModelFacts) -> bool:
    """Whether every layer keeps kv_heads · head_dim keys and as many values, and attends to them as they are."""
    plain = 2 * (facts.kv_heads or 0) * (facts.head_dim or 0) * DTYPE_BYTES.get(facts.dtype or "", 0)
    kept = [each for each in facts.cache_layers if each.kind != EMPTY]
    return all(each.token_bytes == plain and each.pair_products is not None for each in kept)


def _int64s(facts: ModelFacts) -> int:
    """Whole numbers beside the tensors of a dynamic cache: the window of a layer, and the tokens that xLSTM counts."""
    windows = sum(each.layers for each in facts.cache_layers if each.window is not None)
    return windows + (facts.model_type == "xlstm")


def _static_bytes(facts: ModelFacts, rows: int, length: int, tokens: int, *, windows: bool) -> int:
    held = sum(each.allocated(length, tokens, windows=windows) for each in facts.cache_layers)
    return rows * held + COUNTER_BYTES * sum(each.layers * each.counters for each in facts.cache_layers)


def _quantised_bytes(facts: ModelFacts, spec: CacheKind, rows: int, tokens: int, prompt: int) -> int:
    keys_per_token = (facts.kv_heads or 0) * (facts.head_dim or 0)
    tensors = 2 * sum(each.layers for each in facts.cache_layers if each.token_bytes)
    if spec.backend == "fp8":
        return tensors * (rows * tokens * keys_per_token + SCALE_BYTES)
    group, width = group_size(keys_per_token), DTYPE_BYTES[facts.dtype or ""]
    assert group is not None and spec.bits is not None  # noqa: PT018
    residual = (tokens - prompt) % RESIDUAL_TOKENS
    groups = rows * (tokens - residual) * keys_per_token // group
    return tensors * (_code_bytes(spec, groups, group) + 2 * groups * width + rows * residual * keys_per_token * width)


def _code_bytes(spec: CacheKind, groups: int, group: int) -> int:
    """quanto packs along the groups, hqq along the elements of one."""
    bits = spec.bits or 8
    if spec.backend == "quanto":
        return -(-groups * bits // 8) * group
    if bits == 3:
        return -(-group // THREE_BIT_ROWS) * 4 * groups
    return groups * group * bits // 8


MESSAGES = "not predicted where messages are appended to a quantised cache: versions of transformers differ there"


def predicted_bytes(
    facts: ModelFacts,
    arm: Arm,
    rows: int,
    prompt: int,
    passes: int,
    interruptions: Interruptions,
    length: int | None = None,
) -> int | None:
    """Bytes after so many passes over prompts of `prompt` tokens; None where they are not known.

    `length` is that of a static cache, where it is known to be another than `Arm.static_cache_length` would make it.
    """
    if not arm.keeps_past:
        return 0
    held = interruptions.context(prompt, passes - 1)  # the newest token was never submitted
    whole = prompt
    if arm.is_lossy and interruptions.steps:
        if arm.mode == "interrupted":  # what is rebuilt is submitted at once, like a prompt
            done = [step for step in interruptions.steps if step < passes]
            whole = interruptions.context(prompt, done[-1]) if done else prompt
        elif interruptions.message_ids:
            return None
    return cache_bytes(
        facts,
        arm.cache,
        rows,
        held,
        prompt=whole,
        length=(length or arm.static_cache_length(interruptions.context(prompt, passes))) if arm.is_static else None,
        windows=arm.has_windows,
    )


# What one forward pass must read and compute: the arithmetic behind floors and limits.
# Matrix products only, 2 FLOPs for a multiply and an add (Kaplan et al., 2020, table 1, without its factor for
# training); norms, activations, rotations and softmax are left out, as torch's own counter leaves them out.


@dataclass(frozen=True)
class Cost:
    """One forward pass. Bytes are those that have to be read once; FLOPs of attention follow the causal mask.

    `square_flops` count every query against every key that is handed in, as kernels without a causal shortcut do. Both
    are None where the arithmetic of attention or of a recurrent state does not follow from the config.
    """

    weight_bytes: int
    kv_bytes: int
    flops: int | None
    square_flops: int | None
    head_flops: int  # of them, the output projection's

    @property
    def bytes(self) -> int:
        """Everything that has to be read."""
        return self.weight_bytes + self.kv_bytes


def facts_from_mapping(model: Mapping[str, Any]) -> ModelFacts:
    """The facts that a record's `model` holds; what an older record lacks is None."""
    known: dict[str, Any] = {
        each.name: model.get(each.name) for each in fields(ModelFacts) if each.name != "null_reasons"
    }
    layers = tuple(CacheLayers(**each) for each in known["cache_layers"] or ())
    return ModelFacts(**{**known, "layer_types": tuple(known["layer_types"] or ()), "cache_layers": layers})


def pass_cost(
    facts: ModelFacts, batch: int, submitted: int, past: int = 0, *, logits: int = 1, reads_cache: bool | None = None
) -> Cost | None:
    """The cost of submitting so many tokens per sequence to a past of `past` tokens, with logits of `logits` positions.

    `reads_cache` says whether keys and values come from a cache (default: where there is a past). None where the
    cache or the weights that a pass reads are not known.
    """
    parts = facts.weight_parts
    if parts is None or facts.kv_bytes_per_token is None:
        return None
    tokens = batch * submitted
    head_flops = 2 * _products(parts["head"]) * batch * logits
    dense = 2 * (_products(parts["linear"]) + _products(parts["experts"])) * tokens + head_flops
    dense += _filter_flops(facts, batch, past)
    causal = square = 0
    for each in facts.cache_layers:
        per_pair, reach = 2 * (each.pair_products or 0) * batch * each.layers, each.window or each.shared_window
        # Layers that read another one's keys run last, for the positions alone whose logits are wanted.
        queries = min(logits, submitted) if each.kind == SHARED else submitted
        causal += per_pair * _visible_pairs(queries, past + submitted - queries, reach)
        square += per_pair * queries * (min(past, reach - 1) + submitted if reach else past + submitted)
        dense += 2 * each.past_products * batch * each.layers * (min(past, reach - 1) if reach else past)
    cached = reads_cache if reads_cache is not None else past > 0
    known = unknown_arithmetic(facts) is None
    return Cost(
        weight_bytes=_weight_bytes(facts, parts, tokens),
        kv_bytes=(kv_cache_bytes(facts, batch, past + submitted) or 0) if cached else 0,
        flops=dense + causal if known else None,
        square_flops=dense + square if known else None,
        head_flops=head_flops,
    )


def unknown_arithmetic(facts: ModelFacts) -> str | None:
    """Why the FLOPs of a pass cannot be predicted although its bytes can, or None when they can."""
    kinds = sorted({each.kind for each in facts.cache_layers if each.pair_products is None})
    if not kinds:
        return None
    model_type = (facts.model_type or "").removesuffix("_text")
    other = OTHER_ARITHMETIC.get(model_type)
    why = other or f"no formula for what its layers of type {', '.join(kinds)} compute besides their weights"
    return f"the FLOPs of a pass are not predicted for this architecture: {why}"


def _products(part: Mapping[str, int]) -> int:
    """Multiplications of one token with a part of the weights."""
    return part.get("products", part["parameters"])


def step_cost(facts: ModelFacts, batch: int, context: int, *, keeps_past: bool, logits: int = 1) -> Cost | None:
    """A decode step that ends at `context` tokens: one token on a past, or all of them; see `pass_cost`."""
    if keeps_past:
        return pass_cost(facts, batch, 1, context - 1, logits=logits, reads_cache=True)
    return pass_cost(facts, batch, context, logits=logits)


def _visible_pairs(submitted: int, past: int, window: int | None) -> int:
    """Pairs of a query and a key that it may see: query i sees past + i keys, or the last `window` of them."""
    first, last = past + 1, past + submitted
    if window is None or last <= window:
        return (first + last) * submitted // 2
    if first >= window:
        return window * submitted
    growing = window - first  # queries that do not fill the window yet
    return (first + window - 1) * growing // 2 + window * (submitted - growing)


def _filter_flops(facts: ModelFacts, batch: int, past: int) -> int:
    """Yuan's filter on a past: its first convolution, hidden² weights, is computed again for the token before."""
    if facts.model_type != YUAN or not past or not facts.hidden_size:
        return 0
    return 2 * facts.hidden_size**2 * batch * len(facts.layer_types)


def _weight_bytes(facts: ModelFacts, parts: Mapping[str, Mapping[str, int]], tokens: int) -> int:
    """All that is read but the embedding tables, of which a row a token; of the experts those that a token is sent to.

    Tokens are taken to choose their experts independently and evenly: an expert is left out by all of n tokens with
    probability (1 - k/E)^n, where k/E is the share of the experts that one token is multiplied with.
    """
    experts = parts["experts"]
    whole = experts.get("multiplied") or experts["parameters"]
    share = min(1.0, _products(experts) / whole) if whole else 1.0
    touched = 1 - (1 - share) ** tokens
    table = parts["embedding"]
    rows = 0
    if table["parameters"] and facts.hidden_size:
        rows = min(table["bytes"], tokens * facts.hidden_size * table["bytes"] // table["parameters"])
    always = parts["linear"]["bytes"] + parts["head"]["bytes"] + parts["other"]["bytes"]
    return always + int(experts["bytes"] * touched) + rows


# How much memory a size needs, and the largest that a budget holds.
# What lives at the same moment was read off transformers' decoders (5.17 to 5.23), tensor by tensor, for T = rows
# times submitted tokens, "seen" with the past before them, and elements of the model's type:
#
#     MLP        T · (3 · intermediate + 4 · hidden)    gate, up and their product; embeddings, the layer's input, the
#                                                       residual after attention, its norm
#     attention  T · (3 · hidden + 4 · queries + keys + values)    queries while they are rotated
#     repeats    2 · rows · seen · queries              of grouped keys and values, on a past and so under a mask
#     scores     3 · rows · heads · submitted · seen    where attention is written out (eager, math)
#     mask       submitted · seen                       bytes, and as many elements, beyond a sliding window or a chunk
#     logits     rows · vocabulary                      of the positions asked for; with the habit all_logits of all
#     cache      as `kv_cache_bytes`; a step also holds one layer's old keys beside the new ones
#     GEMM       T · intermediate                       on the CPU: what its library packs and keeps
#
# Weights and cache stay; of the rest the largest moment counts. Left out: the allocator's slack, plans and
# workspaces of a GPU's libraries, activations that are written out in several operations (GPT-2's), the routing of
# experts.


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
    facts = as_kept(facts, decoding.arm.cache)
    dense, kv = kv_cache_bytes(facts, rows, context), _held_bytes(facts, decoding, rows, context)
    known = (facts.weight_bytes, facts.hidden_size, facts.head_dim, facts.attention_heads, facts.vocab_size)
    if width is None or dense is None or kv is None or None in known or not decoding.predictable:
        return None
    if not _has_plain_keys(facts):  # what is made of a latent, or of a state, has no formula here
        return None
    seen = context - decoding.new_tokens + 1 if decoding.arm.keeps_past else context
    submitted = min(seen, decoding.chunk or seen) if decoding.arm.keeps_past else seen
    moment = _pass_bytes(facts, decoding, rows, submitted, seen) * width + _mask_bytes(facts, submitted, seen, width)
    cache = kv + _behind_windows(facts, decoding, rows, submitted, seen) if decoding.builds_cache else 0
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


def _behind_windows(facts: ModelFacts, decoding: Decoding, rows: int, submitted: int, seen: int) -> int:
    """What a pass leaves behind a window: the tokens kept are a view, and all that it was cut from stays."""
    if decoding.arm.is_static or decoding.arm.is_lossy:
        return 0
    windows = [each for each in facts.cache_layers if each.window is not None]
    return rows * sum(
        each.layers * each.token_bytes * max(0, min(seen, each.window - 1 + submitted) - (each.window - 1))
        for each in windows
        if each.window is not None
    )


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
