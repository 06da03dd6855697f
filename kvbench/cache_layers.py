"""What each layer of a transformers cache holds of one sequence, from the model's config alone. No torch.

Read off the caches of every class in transformers' causal mapping (5.17 to 5.24), tensor by tensor. Keys and values
follow from heads and their widths. States of recurrent and convolutional layers have names of their own in each
architecture, so they are in a table by `model_type`; one that is not in it has no prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
LAYER_WORDS = {"full_attention": "full", "sliding_attention": "sliding"}
YUAN = "yuan"  # its layers are "hybrid": keys and values as in full attention, and the states of its filter

# One quantity, the names that architectures give it. The first name that is set wins. Decoder-only classes of
# encoder-decoder families keep the encoder's depth and heads under the common names, and the decoder's under these.
LAYERS = ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers")
ATTENTION_HEADS = (
    "decoder_attention_heads",
    "num_decoder_attention_heads",
    "num_attention_heads",
    "n_head",
    "n_heads",
    "num_heads",
)
HIDDEN_SIZE = ("hidden_size", "n_embd", "d_model", "dim")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")

NO_SHAPE = "the config does not state layers, heads and head width under a known name"
FLOAT32 = 4  # bytes of a number in states that are kept in single precision whatever the model's type
POSITIONS = 3 * 8  # bytes: three int64 for each token
INDEXED = "indexed_attention"
EMPTY = "empty"  # our word for a layer of a cache that no layer of the model fills
SHARED = "shared"  # our word for a layer that reads the keys and values of another one
LINEAR = frozenset({"linear_attention", "conv"})  # a state and nothing per token
HYBRID = {"hybrid": "full_attention", "hybrid_sliding": "sliding_attention"}  # a state besides keys and values
NOTHING = frozenset({"moe", "mlp", "dummy"})  # layers without attention, and ones that read another layer's
STATE_ONLY = frozenset({"falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm"})  # no layer of theirs attends
ATTENDING = frozenset({"full_attention", "sliding_attention", "chunked_attention", INDEXED, *HYBRID})

# Why a cache cannot be told from the config, by model type.
CACHES_OF_THEIR_OWN = {
    "deepseek_v4": "it compresses blocks of tokens as they fill up, each layer in its own way",
    "cpmant": "it puts tokens of its own before the text, and caches them too",
    "xlm": "its cache is filled beforehand with as many tokens as will come",
}
# Why the arithmetic of attention cannot be told from heads and widths, by model type.
OTHER_ARITHMETIC = {
    "deepseek_v4": "its attention works on compressed blocks of tokens",
    "diffllama": "its heads attend twice and are subtracted",
    "doge": "its attention weighs values by a mask that is computed from them",
    "gemma3n": "its layers mix several streams of hidden states",
    "longcat_flash": "how many experts compute depends on the text",
    "prophetnet": "it computes several streams of future tokens",
    "big_bird": "its attention is sparse in blocks",
    "xlnet": "its attention is relative, with products besides those of queries and keys",
}

# Settings of caches that are not plain. Where no formula below was written for the model's type, they forbid a guess.
HINTS = {
    "state_size": "it keeps a recurrent state",
    "ssm_state_size": "it keeps a recurrent state",
    "mamba_d_state": "it keeps a recurrent state",
    "linear_num_key_heads": "it keeps a recurrent state",
    "block_types": "it keeps a recurrent state",
    "conv_L_cache": "it keeps a convolution state",
    "value_head_dim": "its keys and values have different widths",
    "num_global_key_value_heads": "its layers differ in key-value heads",
    "global_head_dim": "its layers differ in head width",
    "kv_channels": "its attention experts differ in width",
    "index_head_dim": "its sparse attention caches index keys besides",
}
PLAIN_ALL_THE_SAME = frozenset({"gemma4", "gemma4_unified", "jetmoe", "minimax_m3_vl"})


class UnknownCache(Exception):
    """Why the cache of a config cannot be predicted, in words."""


@dataclass(frozen=True)
class CacheLayers:
    """`layers` neighbours whose caches are alike, and what each of them holds of one sequence.

    `token_bytes` is what every token adds while it is kept, index keys included. `window` is the number of tokens that
    the layer looks at, the newest one included; None where it keeps all; `shared_window` the same of a layer that keeps
    nothing and reads another one's. `state_bytes` is there whatever the length.
    `counters` are the int64 numbers with which a static cache counts tokens, for all sequences together.
    `position_bytes` of the token's bytes come with each token even in a static cache.
    `pair_products` are multiplications of numbers for each pair of a query and a key that it sees, None where they do
    not follow from the config. `past_products` are those that each cached token takes again in every pass.
    """

    layers: int
    kind: str
    token_bytes: int = 0
    window: int | None = None
    shared_window: int | None = None
    state_bytes: int = 0
    counters: int = 0
    position_bytes: int = 0
    pair_products: int | None = 0
    past_products: int = 0

    def held(self, tokens: int) -> int:
        """Bytes of one sequence in all of these layers, in a dynamic cache that has seen so many tokens.

        A layer with a window keeps one token less than that: the next step brings the one that completes it.
        """
        kept = tokens if self.window is None else min(tokens, self.window - 1)
        return self.layers * (self.token_bytes * kept + self.state_bytes)

    def allocated(self, length: int, tokens: int, *, windows: bool = True) -> int:
        """Bytes of one sequence in all of these layers, in a static cache of this length that has seen `tokens`."""
        kept = length if self.window is None or not windows else min(length, self.window)
        made = (self.token_bytes - self.position_bytes) * kept + self.position_bytes * tokens
        return self.layers * (made + self.state_bytes)


def cache_layers(config: Any, dtype: str | None) -> tuple[CacheLayers, ...]:
    """The layers of the cache that a decoder of this config fills, an object or a mapping, with numbers of `dtype`.

    Raises `UnknownCache` where they do not follow from it.
    """
    model_type = str(get(config, "model_type") or "").removesuffix("_text")
    if model_type in CACHES_OF_THEIR_OWN:
        raise UnknownCache(CACHES_OF_THEIR_OWN[model_type])
    if get(config, "is_encoder_decoder"):
        raise UnknownCache("it also caches its encoder's keys and values (is_encoder_decoder)")
    if dtype not in DTYPE_BYTES:
        raise UnknownCache(f"the width of a cache element is not known for dtype {dtype}")
    kinds = cache_kinds(config)
    _forbid_guesses(config, model_type, kinds)
    if not kinds:
        raise UnknownCache(NO_SHAPE)
    try:
        alone = [_layer(config, model_type, index, kind, DTYPE_BYTES[dtype]) for index, kind in enumerate(kinds)]
        alone += _beyond(config, model_type, alone)
    except TypeError as error:  # a number that the formula needs is None
        raise UnknownCache(NO_SHAPE) from error
    return tuple(replace(same, layers=sum(1 for _ in run)) for same, run in groupby(alone))


def _forbid_guesses(config: Any, model_type: str, kinds: list[str]) -> None:
    """Raise `UnknownCache` for settings that no formula here takes into account."""
    if get(config, "is_heterogeneous") and get(config, "per_layer_config") is None:
        raise UnknownCache("its layers differ in shape (is_heterogeneous)")
    known = model_type in STATES or model_type in PLAIN_ALL_THE_SAME
    for key, why in HINTS.items():
        if get(config, key) and not known and not (key == "index_head_dim" and INDEXED in kinds):
            raise UnknownCache(f"{why} ({key})")


def cache_kinds(config: Any) -> list[str]:
    """transformers' word for the cache of every layer, as `DynamicCache(config=…)` finds it."""
    kinds = _own_kinds(config)
    modes = get(config, "kv_sharing_modes")
    if modes is not None:
        return ["dummy" if mode == "reuse" else kind for kind, mode in zip(kinds, modes, strict=False)]
    sharing = get(config, "num_kv_shared_layers")  # up to 5.22, of the last layers
    return [*kinds[:-sharing], *["dummy"] * sharing] if sharing else kinds


def _own_kinds(config: Any) -> list[str]:
    """The same without regard to sharing."""
    stated = get(config, "layer_types") or get(config, "layers_block_type")
    if stated:
        return list(stated)
    layers = range(first(config, LAYERS) or 0)
    if get(config, "model_type") in STATE_ONLY:
        return ["linear_attention"] * len(layers)
    return [_kind_by_window(layer_config(config, index)) for index in layers]


def layer_config(config: Any, index: int) -> Any:
    """The config of one layer, where layers differ."""
    layers = get(config, "per_layer_config")
    if isinstance(layers, Mapping):
        names = (index, str(index), f"{index:02}")
        changes: Mapping[str, Any] = next((layers[name] for name in names if name in layers), {})
        return {**config, **changes} if isinstance(config, Mapping) else config
    return layers[index] if layers is not None and get(config, "is_heterogeneous") else config


def kv_heads_of(config: Any, attention_heads: int | None) -> int | None:
    """Key-value heads of one layer. A decoder of an encoder-decoder family has none apart from its heads."""
    if first(config, ("decoder_attention_heads", "num_decoder_attention_heads")) is not None:
        return attention_heads
    # GPT-BigCode and Falcon say multi_query and leave the number out. Falcon's newer decoder ignores the flag.
    if get(config, "multi_query") and not get(config, "new_decoder_architecture"):
        return 1
    return first(config, KV_HEADS) or attention_heads


def head_dim_of(config: Any, hidden_size: int | None, attention_heads: int | None) -> int | None:
    """Width of one key."""
    stated: int | None = get(config, "head_dim")
    if stated or not hidden_size or not attention_heads:
        return stated
    return hidden_size // attention_heads


def first(config: Any, names: tuple[str, ...]) -> int | None:
    """The value under the first of these names that has one."""
    return next((value for name in names if type(value := get(config, name)) is int), None)


def get(config: Any, name: str) -> Any:
    """A value of a config, an object or a mapping; None where it has none."""
    if isinstance(config, Mapping):
        return config.get(name)
    try:
        return getattr(config, name, None)
    except RuntimeError:  # transformers' answer for a value that differs from layer to layer
        return None


def _kind_by_window(config: Any) -> str:
    if get(config, "sliding_window") is not None:
        return "sliding_attention"
    return "chunked_attention" if get(config, "attention_chunk_size") is not None else "full_attention"


def _layer(config: Any, model_type: str, index: int, kind: str, width: int) -> CacheLayers:
    """One layer, by the kind of its cache."""
    own = layer_config(config, index)
    if kind == "dummy":
        return _sharing(config, own, model_type, index)
    if kind in NOTHING:
        return CacheLayers(1, kind)
    if kind in LINEAR:
        # Its arithmetic is a scan or a product with the state, in pieces that each implementation cuts differently.
        return CacheLayers(1, kind, state_bytes=_state_bytes(own, model_type, kind, width), pair_products=None)
    if kind not in ATTENDING:
        raise UnknownCache(f"it has layers of type {kind}")
    state = _state_bytes(own, model_type, kind, width) if kind in HYBRID else 0
    attention = HYBRID.get(kind, kind)
    if index in (get(config, "cross_attention_layers") or ()):
        return CacheLayers(1, EMPTY, counters=1)  # it attends to images alone, and text has none
    keys, products, again = _keys_and_values(own, model_type, attention, index)
    known = kind != INDEXED and model_type not in OTHER_ARITHMETIC and (kind not in HYBRID or model_type == YUAN)
    index_bytes = _index_bytes(own, model_type, index, width) if kind == INDEXED else 0
    # The first indexed layer keeps every token's positions for all of them.
    holds = model_type.startswith("qwen4_exp") and kind == INDEXED and index == cache_kinds(config).index(INDEXED)
    positions = POSITIONS if holds else 0
    return CacheLayers(
        layers=1,
        kind=LAYER_WORDS.get(kind, kind),
        token_bytes=keys * width + index_bytes + positions,
        window=_window(own, attention),
        state_bytes=state,
        counters=2 if index_bytes else 1,
        position_bytes=positions,
        pair_products=products if known else None,
        past_products=again,
    )


def _sharing(config: Any, own: Any, model_type: str, index: int) -> CacheLayers:
    """A layer that keeps nothing and attends to what an earlier one of its kind keeps."""
    kind = _own_kinds(config)[index]
    return CacheLayers(
        layers=1,
        kind=SHARED,
        shared_window=_window(own, kind),
        pair_products=None if model_type in OTHER_ARITHMETIC else _keys_and_values(own, model_type, kind, index)[1],
    )


def _window(config: Any, kind: str) -> int | None:
    name = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}.get(kind)
    return None if name is None else get(config, name)


def _keys_and_values(config: Any, model_type: str, kind: str, index: int) -> tuple[int, int, int]:
    """Numbers that a token leaves behind, products for a pair of tokens, and products for each cached token."""
    heads, by_layer = first(config, ATTENTION_HEADS), get(config, "num_attention_heads_per_layer")
    latent, rotated = get(config, "kv_lora_rank"), get(config, "qk_rope_head_dim")
    if latent and not rotated:
        raise UnknownCache("latent attention without the width of what is rotated (kv_lora_rank)")
    if latent and rotated and heads:  # the latent is cached, and made into keys and values again in every pass
        plain, value = get(config, "qk_nope_head_dim"), get(config, "v_head_dim")
        if plain is None or value is None:
            raise UnknownCache("latent attention without the widths of its keys and values (kv_lora_rank)")
        return latent + rotated, heads * (plain + rotated + value), latent * heads * (plain + value)
    sliding = kind == "sliding_attention"
    if sliding and get(config, "swa_head_dim"):
        heads, kv_heads, head_dim = (
            get(config, name) for name in ("swa_num_attention_heads", "swa_num_key_value_heads", "swa_head_dim")
        )
    else:
        kv_heads = kv_heads_of(config, heads)
        head_dim = head_dim_of(config, first(config, HIDDEN_SIZE), heads)
    if not kv_heads or not head_dim or not heads:
        raise UnknownCache(NO_SHAPE)
    if model_type == "mimo_v2_flash" and sliding:
        kv_heads *= 2
    value = get(config, "v_head_dim") or head_dim
    attending = by_layer[index] if by_layer else heads
    return kv_heads * (head_dim + value), attending * (head_dim + value), 0


def _index_bytes(config: Any, model_type: str, index: int, width: int) -> int:
    """Index keys of a token; layers that reuse an earlier layer's choice have none."""
    kinds = get(config, "indexer_types")
    if kinds and kinds[index] == "shared":
        return 0
    if model_type.startswith("qwen4_exp"):
        if get(config, "ple_layer_ids"):
            raise UnknownCache("it keeps the states of embeddings of its own besides (ple_layer_ids)")
        return int(get(config, "indexer_kv_heads") * get(config, "indexer_head_dim") * width)
    return int(get(config, "index_head_dim") * (FLOAT32 if model_type == "dots3_note" else width))


def _beyond(config: Any, model_type: str, layers: list[CacheLayers]) -> list[CacheLayers]:
    """Further layers of the cache: copies for layers that run in loops, empty ones that no layer of the model fills."""
    if model_type == "dory" and get(config, "recurrent_kv_cache_mode") != "last_loop":
        begin, again = get(config, "n_input_layers"), get(config, "n_recurrent_loops") - 1
        looped = layers[begin : begin + get(config, "n_recurrent_layers")]
    elif model_type == "inkling2_loop":
        begin, end = get(config, "loop_layer_index_start"), get(config, "loop_layer_index_end")
        looped, again = layers[begin:end], get(config, "loop_num_passes") - 1
    else:
        looped, again = [], 0
    if looped:
        return looped * int(again)
    # A decoder of an encoder-decoder family: its cache is made for as many layers as the encoder has.
    made = first(config, ("num_hidden_layers",))
    if first(config, ("decoder_layers", "num_decoder_layers")) is not None and made is not None:
        return [CacheLayers(1, EMPTY, counters=1)] * max(0, made - len(layers))
    return []


# States, by model type: what a layer holds of one sequence, as numbers in the model's type and numbers in float32.


@dataclass(frozen=True)
class _State:
    of_model: int = 0
    single: int = 0


def _mamba(config: Any, inner: int, kernel: str, state: str) -> _State:
    """Mamba: the last inputs of its convolution, and a state for every channel."""
    return _State(inner * get(config, kernel), inner * get(config, state))


def _mamba2(config: Any, inner: int, groups: str, state: str, kernel: str, heads: str, head_dim: str) -> _State:
    """Mamba 2: its convolution also takes the two projections of each group."""
    width = get(config, state)
    convolved = inner + 2 * get(config, groups) * width
    return _State(convolved * get(config, kernel), get(config, heads) * get(config, head_dim) * width)


def _expanded(config: Any, name: str = "mamba_expand") -> int:
    return int(get(config, name) * first(config, HIDDEN_SIZE))


def _bamba(config: Any) -> _State:
    inner = get(config, "mamba_d_ssm") or _expanded(config)
    named = ("mamba_n_groups", "mamba_d_state", "mamba_d_conv", "mamba_n_heads", "mamba_d_head")
    return _mamba2(config, inner, *named)


def _nemotron_h(config: Any) -> _State:
    inner = get(config, "mamba_num_heads") * get(config, "mamba_head_dim")
    return _mamba2(config, inner, "n_groups", "ssm_state_size", "conv_kernel", "mamba_num_heads", "mamba_head_dim")


def _zamba2(config: Any) -> _State:
    named = ("mamba_ngroups", "mamba_d_state", "mamba_d_conv", "n_mamba_heads", "mamba_headdim")
    return _mamba2(config, _expanded(config), *named)


def _pure_mamba2(config: Any) -> _State:
    named = ("n_groups", "state_size", "conv_kernel", "num_heads", "head_dim")
    return _mamba2(config, _expanded(config, "expand"), *named)


def _delta(config: Any) -> _State:
    """Gated delta rule: a convolution over queries, keys and values, and a matrix for every value head."""
    key, value = get(config, "linear_key_head_dim"), get(config, "linear_value_head_dim")
    key_heads, value_heads = get(config, "linear_num_key_heads"), get(config, "linear_num_value_heads")
    convolved = 2 * key_heads * key + value_heads * value
    return _State(convolved * get(config, "linear_conv_kernel_dim"), value_heads * key * value)


def _kimi(config: Any) -> _State:
    heads, width = get(config, "linear_num_heads"), get(config, "linear_head_dim")
    return _State(3 * heads * width * get(config, "linear_conv_kernel_dim"), heads * width**2)


def _short_convolution(config: Any) -> _State:
    return _State(first(config, HIDDEN_SIZE) * get(config, "conv_L_cache"))


def _minimax(config: Any) -> _State:
    """Lightning attention: a square matrix for every head, in the model's type."""
    heads = first(config, ATTENTION_HEADS)
    width = head_dim_of(config, first(config, HIDDEN_SIZE), heads)
    return _State(heads * width**2)  # type: ignore[operator]


def _rwkv(config: Any) -> _State:
    """The last inputs of both halves of a layer, and numerator, denominator and maximum of its attention."""
    return _State(2 * get(config, "hidden_size"), 3 * get(config, "attention_hidden_size"))


def _xlstm(config: Any) -> _State:
    """A matrix, its normaliser and a maximum for every head."""
    keys, values = get(config, "qk_head_dim"), get(config, "v_head_dim")
    return _State(get(config, "num_heads") * (keys * values + keys + 1))


def _zaya(config: Any) -> _State:
    heads, kv_heads, width = first(config, ATTENTION_HEADS), first(config, KV_HEADS), get(config, "head_dim")
    assert heads is not None and kv_heads is not None  # noqa: PT018
    reach = get(config, "cca_time0") + get(config, "cca_time1") - 2
    return _State((heads + kv_heads) * width * reach + kv_heads * width // 2)


STATES: dict[str, Callable[[Any], _State]] = {
    "bailing_hybrid": _kimi,
    "bamba": _bamba,
    "falcon_h1": _bamba,
    "falcon_mamba": lambda config: _mamba(config, get(config, "intermediate_size"), "conv_kernel", "state_size"),
    "granitemoehybrid": _bamba,
    "jamba": lambda config: _mamba(config, _expanded(config), "mamba_d_conv", "mamba_d_state"),
    "kimi_linear": _kimi,
    "lara_mini": _delta,
    "lfm2": _short_convolution,
    "lfm2_moe": _short_convolution,
    "lfm3": _short_convolution,
    "mamba": lambda config: _mamba(config, get(config, "intermediate_size"), "conv_kernel", "state_size"),
    "mamba2": _pure_mamba2,
    "minimax": _minimax,
    "nemotron_h": _nemotron_h,
    "olmo_hybrid": _delta,
    "qwen3_5": _delta,
    "qwen3_5_moe": _delta,
    "qwen3_next": _delta,
    "qwen4_exp": _delta,
    "recurrent_gemma": lambda _: _State(),  # the model's layers keep it themselves, outside of the cache
    "rwkv": _rwkv,
    "xlstm": _xlstm,
    "zamba": lambda config: _mamba(config, _expanded(config), "mamba_d_conv", "mamba_d_state"),
    "zamba2": _zamba2,
    "zaya": _zaya,
}


def _state_bytes(config: Any, model_type: str, kind: str, width: int) -> int:
    if model_type == YUAN:  # its last two normed inputs, and an int64 where <eod> separates documents
        separates = get(config, "reset_attention_mask") and get(config, "reset_position_ids")
        return 2 * (first(config, HIDDEN_SIZE) or 0) * width + (8 if separates else 0)
    if model_type.startswith("inkling"):
        return _inkling_bytes(config, kind)
    known = STATES.get(model_type)
    if known is None:
        raise UnknownCache(f"the state of its layers of type {kind} is not known for {model_type or 'this model'}")
    state = known(config)
    return state.of_model * width + state.single * FLOAT32


def _inkling_bytes(config: Any, kind: str) -> int:
    """Four convolutions of single precision in every layer: over keys, values, and twice the hidden states."""
    prefix = "swa_" if kind == "hybrid_sliding" else ""
    keys = get(config, f"{prefix}num_key_value_heads") * get(config, f"{prefix}head_dim")
    return int(2 * (keys + (first(config, HIDDEN_SIZE) or 0)) * get(config, "conv_kernel_size") * FLOAT32)
