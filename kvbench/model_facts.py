"""What is known about a model besides its weights: its shape, its bytes, and what one token of context costs.

Imports neither torch nor transformers: a transformers config or a plain `architecture` mapping is only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}

# One quantity, the names that architectures give it. The first name that is set wins.
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN_SIZE = ("hidden_size", "n_embd", "d_model", "dim")
ATTENTION_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
INTERMEDIATE_SIZE = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff")
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

# Settings under which a layer does not hold kv_heads × head_dim keys and as many values for every token.
OTHER_CACHES = {
    "is_heterogeneous": "its layers differ in shape",
    "kv_lora_rank": "latent attention keeps keys and values of different widths",
    "v_head_dim": "its keys and values have different widths",
    "value_head_dim": "its keys and values have different widths",
    "num_kv_shared_layers": "some of its layers share the keys and values of others",
    "kv_sharing_modes": "some of its layers share the keys and values of others",
    "num_global_key_value_heads": "its layers differ in key-value heads",
    "global_head_dim": "its layers differ in head width",
    "swa_num_key_value_heads": "its layers differ in key-value heads",
    "swa_head_dim": "its layers differ in head width",
    "cross_attention_layers": "its cross-attention layers cache nothing per token",
    "kv_channels": "its attention experts differ in width",
    "attention_chunk_size": "its attention is chunked",
    "index_head_dim": "its sparse attention caches index keys besides",
    "state_size": "it keeps a recurrent state",
    "ssm_state_size": "it keeps a recurrent state",
    "mamba_d_state": "it keeps a recurrent state",
    "linear_num_key_heads": "it keeps a recurrent state",
    "block_types": "it keeps a recurrent state",
    "conv_L_cache": "it keeps a convolution state",
    "is_encoder_decoder": "it also caches its encoder's keys and values",
    "add_cross_attention": "it may also cache another model's keys and values",
}
LAYER_WORDS = {"full_attention": "full", "sliding_attention": "sliding"}
YUAN = "yuan"  # its layers are "hybrid": keys and values as in full attention, and the states of its filter


@dataclass(frozen=True)
class ModelFacts:
    """The model of one run. What is None is unknown, and `null_reasons` says why, by field name.

    `layer_types` has one word per layer: "full", "sliding", or transformers' own word for anything else.
    `kv_bytes_per_token` is what one more token of context adds to a `DynamicCache` for one sequence, in bytes at
    `dtype`, while the context is below the sliding window: 2 · kv_heads · head_dim · bytes, summed over all layers.
    Beyond the window only the full layers grow.
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
    null_reasons: dict[str, str] = field(default_factory=dict)


def kv_cache_bytes(facts: ModelFacts, batch: int, tokens: int) -> int | None:
    """Logical bytes of a `DynamicCache(config=…)` that has seen `tokens` tokens in each of `batch` sequences.

    A full layer holds (batch, kv_heads, tokens, head_dim) keys and as many values. A sliding layer holds the last
    window - 1 tokens: the next step brings the one that completes the window. None where
    `facts.kv_bytes_per_token` is None, for the same reason.
    """
    if facts.kv_bytes_per_token is None:
        return None
    window = facts.sliding_window
    kept_by_sliding = tokens if window is None else min(tokens, window - 1)
    per_layer_and_token = facts.kv_bytes_per_token // len(facts.layer_types)
    kept = sum(kept_by_sliding if kind == "sliding" else tokens for kind in facts.layer_types)
    return (per_layer_and_token * kept + (facts.fixed_cache_bytes or 0)) * batch


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
    layers = _first(text, LAYERS)
    hidden_size = _first(text, HIDDEN_SIZE)
    attention_heads = _first(text, ATTENTION_HEADS)
    kv_heads = _kv_heads(text, attention_heads)
    head_dim = _head_dim(text, hidden_size, attention_heads)
    layer_types = _layer_types(text, layers)
    facts: dict[str, Any] = {
        "name": name,
        "source": source,
        "id": id,
        "revision": revision,
        "model_type": _get(config, "model_type"),
        "parameters": parameters,
        "weight_bytes": weight_bytes,
        "dtype": dtype,
        "layers": layers,
        "hidden_size": hidden_size,
        "attention_heads": attention_heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": _get(text, "vocab_size"),
        "max_context": _first(text, MAX_CONTEXT),
        "sliding_window": _get(text, "sliding_window") if "sliding" in layer_types else None,
        "layer_types": layer_types,
        "tied_embeddings": _get(config, "tie_word_embeddings"),
        "weight_parts": weight_parts,
        "experts": _first(text, EXPERTS),
        "experts_per_token": _first(text, EXPERTS_PER_TOKEN),
        "intermediate_size": _first(text, ("moe_intermediate_size", *INTERMEDIATE_SIZE)),
    }
    unknown = _no_prediction(text, facts)
    facts["kv_bytes_per_token"] = None if unknown else _kv_bytes_per_token(facts)
    facts["fixed_cache_bytes"] = None if unknown else _fixed_cache_bytes(text, facts)
    return ModelFacts(**facts, null_reasons=_null_reasons(facts, unknown))


def _kv_bytes_per_token(facts: dict[str, Any]) -> int:
    keys_and_values = 2 * facts["kv_heads"] * facts["head_dim"]
    return int(keys_and_values * DTYPE_BYTES[facts["dtype"]] * len(facts["layer_types"]))


def _fixed_cache_bytes(config: Any, facts: dict[str, Any]) -> int:
    if facts["model_type"] != YUAN:
        return 0
    # Each layer keeps its last two normed inputs, and one int64 where <eod> separates documents.
    separates = _get(config, "reset_attention_mask") and _get(config, "reset_position_ids")
    inputs = 2 * facts["hidden_size"] * DTYPE_BYTES[facts["dtype"]]
    return int(inputs + (8 if separates else 0)) * len(facts["layer_types"])


def _no_prediction(config: Any, facts: dict[str, Any]) -> str | None:
    """Why the cache's bytes do not follow from layers, heads and head width, or None when they do."""
    for key, why in OTHER_CACHES.items():
        if _get(config, key):
            return f"not predicted for this architecture: {why} ({key})"
    known = {*LAYER_WORDS.values(), *(["hybrid"] if facts["model_type"] == YUAN else [])}
    other = sorted(set(facts["layer_types"]) - known)
    if other:
        return f"not predicted for this architecture: it has layers of type {', '.join(other)}"
    if not facts["layer_types"] or None in (facts["kv_heads"], facts["head_dim"]):
        return "the config does not state layers, heads and head width under a known name"
    if facts["dtype"] not in DTYPE_BYTES:
        return f"the width of a cache element is not known for dtype {facts['dtype']}"
    return None


def _null_reasons(facts: dict[str, Any], unknown: str | None) -> dict[str, str]:
    reasons = {
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
        part = _get(config, section)
        if part is not None:
            return part
    return config


def _kv_heads(config: Any, attention_heads: int | None) -> int | None:
    # GPT-BigCode and Falcon say multi_query and leave the number out. Falcon's newer decoder ignores the flag.
    if _get(config, "multi_query") and not _get(config, "new_decoder_architecture"):
        return 1
    return _first(config, KV_HEADS) or attention_heads


def _head_dim(config: Any, hidden_size: int | None, attention_heads: int | None) -> int | None:
    stated: int | None = _get(config, "head_dim")
    if stated or not hidden_size or not attention_heads:
        return stated
    return hidden_size // attention_heads


def _layer_types(config: Any, layers: int | None) -> tuple[str, ...]:
    """One word per layer, as `DynamicCache(config=…)` reads them: a window without `layer_types` is in every layer."""
    stated = _get(config, "layer_types")
    if stated:
        return tuple(LAYER_WORDS.get(kind, kind) for kind in stated)
    return ("sliding" if _get(config, "sliding_window") else "full",) * (layers or 0)


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    return next((value for name in names if type(value := _get(config, name)) is int), None)


def _get(config: Any, name: str) -> Any:
    if isinstance(config, Mapping):
        return config.get(name)
    try:
        return getattr(config, name, None)
    except RuntimeError:  # transformers' answer for a value that differs from layer to layer
        return None


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
