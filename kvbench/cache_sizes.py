"""The bytes of each kind of cache, from the model's facts and what the cache has seen. No torch.

Dynamic caches are `model_facts.kv_cache_bytes`, and an int64 with the window for a layer that has one. What the others
hold was read off transformers' layers (5.17 to 5.23):

    static      (batch, kv_heads, length, head_dim) keys and as many values a layer, min(length, window) tokens where
                a layer has a window; one int64 that counts its tokens
    quantised   the prompt, and of the tokens after it every whole `RESIDUAL_TOKENS`, as codes; each group of codes has
                a scale and a zero in the model's type; the rest in the model's type
    fp8         every token in one byte an element; one float32 scale for a layer's keys and one for its values
"""

from __future__ import annotations

from kvbench.arm import Arm
from kvbench.capabilities import CACHES, RESIDUAL_TOKENS, CacheKind, group_size
from kvbench.interruptions import Interruptions
from kvbench.model_facts import DTYPE_BYTES, ModelFacts, kv_cache_bytes

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
        dense = kv_cache_bytes(facts, rows, tokens)
        return None if dense is None else dense + COUNTER_BYTES * facts.layer_types.count("sliding")
    if unknown_reason(facts, kind) is not None:
        return None
    if spec.static:
        assert length is not None
        return _static_bytes(facts, rows, length, windows=windows)
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
    if spec.backend != "fp8" and group_size(facts.kv_heads * facts.head_dim) is None:
        return f"its {facts.kv_heads * facts.head_dim} keys a token do not come in groups of 8 or more"
    return None


def _static_bytes(facts: ModelFacts, rows: int, length: int, *, windows: bool) -> int:
    window = facts.sliding_window if windows else None
    kept_by_sliding = length if window is None else min(length, window)
    layers = len(facts.layer_types)
    per_layer_and_token = (facts.kv_bytes_per_token or 0) // layers
    kept = sum(kept_by_sliding if kind == "sliding" else length for kind in facts.layer_types)
    return (per_layer_and_token * kept + (facts.fixed_cache_bytes or 0)) * rows + COUNTER_BYTES * layers


def _quantised_bytes(facts: ModelFacts, spec: CacheKind, rows: int, tokens: int, prompt: int) -> int:
    keys_per_token = (facts.kv_heads or 0) * (facts.head_dim or 0)
    tensors = 2 * len(facts.layer_types)
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

    `length` is that of a static cache, where it is known to be another than `needed_length` would make it.
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
