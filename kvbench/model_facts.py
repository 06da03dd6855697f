"""What is known about a model besides its weights: its shape, its bytes, and what one token of context costs.

Imports neither torch nor transformers: a transformers config or a plain `architecture` mapping is only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvbench.cache_layers import (
    ATTENTION_HEADS,
    HIDDEN_SIZE,
    LAYER_WORDS,
    LAYERS,
    CacheLayers,
    UnknownCache,
    cache_kinds,
    cache_layers,
    first,
    get,
    head_dim_of,
    kv_heads_of,
)

# One quantity, the names that architectures give it. The first name that is set wins; more of them in `cache_layers`.
INTERMEDIATE_SIZE = ("decoder_ffn_dim", "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts")
MAX_CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
    "max_target_positions",
)


@dataclass(frozen=True)
class ModelFacts:
    """The model of one run. What is None is unknown, and `null_reasons` says why, by field name.

    `layer_types` has one word per layer: "full", "sliding", or transformers' own word for anything else.
    `kv_bytes_per_token` is what one more token of context adds to a `DynamicCache` for one sequence, in bytes at
    `dtype`, while the context is below every window: 2 · kv_heads · head_dim · bytes, summed over all layers, where
    these are plain; see `cache_layers` for the others. Beyond a window only the layers without one grow.
    """

    name: str
    source: str  # "hub", "path", "random", "embedded", "python" or "scripted"
    id: str | None
    revision: str | None  # the commit that was loaded
    model_type: str | None
    parameters: int | None  # tied weights counted once
    weight_bytes: int | None
    dtype: str | None
    layers: int | None
    hidden_size: int | None
    attention_heads: int | None
    kv_heads: int | None
    head_dim: int | None
    vocab_size: int | None
    max_context: int | None  # tokens; None: unlimited or not stated
    sliding_window: int | None  # tokens that a sliding layer looks at, the newest one included
    layer_types: tuple[str, ...]
    tied_embeddings: bool | None
    kv_bytes_per_token: int | None
    fixed_cache_bytes: int | None  # of one sequence, whatever its length: states besides keys and values
    # Parameters and bytes by what a pass does with them: linear, experts, head, embedding, other (`models.sizing`).
    weight_parts: dict[str, dict[str, int]] | None = None
    experts: int | None = None  # of a mixture-of-experts layer; None: it has none
    experts_per_token: int | None = None
    intermediate_size: int | None = None  # of one MLP, or of one expert
    adapter: dict[str, Any] | None = None  # PEFT's that is applied: its type, rank and base
    cache_layers: tuple[CacheLayers, ...] = ()  # in order, equal neighbours together; empty where they are not known
    null_reasons: dict[str, str] = field(default_factory=dict)


def kv_cache_bytes(facts: ModelFacts, batch: int, tokens: int) -> int | None:
    """Logical bytes of a `DynamicCache(config=…)` that has seen `tokens` tokens in each of `batch` sequences.

    None where `facts.kv_bytes_per_token` is None, for the same reason.
    """
    if facts.kv_bytes_per_token is None:
        return None
    return batch * sum(layers.held(tokens) for layers in facts.cache_layers)


def facts_from_config(
    config: Any,
    *,
    name: str,
    source: str,
    id: str | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    parameters: int | None = None,
    weight_bytes: int | None = None,
    weight_parts: dict[str, dict[str, int]] | None = None,
) -> ModelFacts:
    """The facts that follow from a transformers config, an object or a mapping.

    `dtype` is a torch type's name such as "bfloat16"; parameters and bytes are counted elsewhere (`models.sizing`).
    """
    text = _text_part(config)
    layers = first(text, LAYERS)
    hidden_size = first(text, HIDDEN_SIZE)
    attention_heads = first(text, ATTENTION_HEADS)
    kv_heads = kv_heads_of(text, attention_heads)
    head_dim = head_dim_of(text, hidden_size, attention_heads)
    layer_types = tuple(LAYER_WORDS.get(kind, kind) for kind in cache_kinds(text))
    facts: dict[str, Any] = {
        "name": name,
        "source": source,
        "id": id,
        "revision": revision,
        "model_type": get(config, "model_type"),
        "parameters": parameters,
        "weight_bytes": weight_bytes,
        "dtype": dtype,
        "layers": layers,
        "hidden_size": hidden_size,
        "attention_heads": attention_heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": get(text, "vocab_size"),
        "max_context": first(text, MAX_CONTEXT),
        "sliding_window": get(text, "sliding_window") if "sliding" in layer_types else None,
        "layer_types": layer_types,
        "tied_embeddings": get(config, "tie_word_embeddings"),
        "weight_parts": weight_parts,
        "adapter": None,
        "experts": first(text, EXPERTS),
        "experts_per_token": first(text, EXPERTS_PER_TOKEN),
        "intermediate_size": first(text, ("moe_intermediate_size", *INTERMEDIATE_SIZE)),
    }
    unknown = None
    try:
        known = cache_layers(text, dtype)
        facts["cache_layers"] = known
        facts["kv_bytes_per_token"] = sum(each.layers * each.token_bytes for each in known)
        facts["fixed_cache_bytes"] = sum(each.layers * each.state_bytes for each in known)
    except UnknownCache as reason:
        unknown = f"not predicted for this architecture: {reason}"
        facts |= {"kv_bytes_per_token": None, "fixed_cache_bytes": None}
    return ModelFacts(**facts, null_reasons=_null_reasons(facts, unknown))


def _null_reasons(facts: dict[str, Any], unknown: str | None) -> dict[str, str]:
    reasons = {
        "adapter": "no adapter is applied",
        "id": "the model does not come from the hub",
        "revision": "no commit of the hub is behind these weights",
        "max_context": "the config states no longest context",
        "sliding_window": "no layer has a sliding window",
        "experts": "no layer is a mixture of experts",
        "experts_per_token": "no layer is a mixture of experts",
        "weight_parts": "the weights were not looked at",
        "kv_bytes_per_token": unknown or "",
        "fixed_cache_bytes": unknown or "",
    }
    return {key: reasons.get(key, "the config does not state it") for key, value in facts.items() if value is None}


def _text_part(config: Any) -> Any:
    """The decoder's own section of a config that describes several towers."""
    for section in ("decoder", "generator", "text_config"):
        part = get(config, section)
        if part is not None:
            return part
    return config


# Rotary positions whose frequencies depend on how long the text is.


def extends_context(config: Any) -> bool:
    """Whether positions are rescaled as the text grows (dynamic NTK), which begins where the stated context ends."""
    return any(kind == "dynamic" for kind, _ in _rotary(config))


def rope_switch(config: Any) -> int | None:
    """Tokens up to which longrope turns by its short factors; beyond them all positions turn by its long ones."""
    found = [original for kind, original in _rotary(config) if kind == "longrope"]
    return found[0] if found and type(found[0]) is int else None


def _rotary(config: Any) -> list[tuple[Any, Any]]:
    """The kind of each of a config's rotary settings, and the context that its model was first trained for."""
    text = vars(_text_part(config)) if not isinstance(config, Mapping) else _text_part(config)
    stated = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(stated, Mapping):
        return []
    by_layer = [each for each in stated.values() if isinstance(each, Mapping)]
    usual = text.get("original_max_position_embeddings")
    return [
        (each.get("rope_type", each.get("type")), each.get("original_max_position_embeddings") or usual)
        for each in ([stated] if {"rope_type", "type"} & stated.keys() else by_layer)
    ]
