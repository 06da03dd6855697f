"""Tiny models for `judge.py`, with weights wide enough that a fault in a cache changes what they write.

transformers' architectures by name, the embedded trained model, and a model of one's own whose products can be written
in five ways. A model can be built again in a wider type with the same weights: what its rounding is measured against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from judge_faults import WINDOW, at_place, kept, noted, out, shown
from torch.nn import functional

VOCABULARY = 199
TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
HEADED = {name: value for name, value in TINY.items() if name != "head_dim"}  # hidden_size over the heads: 12
FEW_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
GPT2 = {
    "vocab_size": VOCABULARY, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 512, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
WINDOWED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
# What an architecture needs besides `TINY`, or instead of it.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "gpt2": GPT2,
    "gptj": {**GPT2, "rotary_dim": 8},
    "codegen": {**GPT2, "rotary_dim": 8},
    "gpt_bigcode": GPT2,
    "llama": TINY,
    "qwen2": TINY,
    "qwen3": TINY,
    "mistral": {**TINY, "sliding_window": WINDOW},
    "gemma": TINY,
    "gemma2": {
        # Caps low enough that they do something to scores and logits of this size.
        **TINY, **WINDOWED, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {**TINY, **WINDOWED, "query_pre_attn_scalar": 16},
    "phi": TINY,
    "phi3": {**TINY, "sliding_window": None},
    "gpt_neox": TINY,
    "opt": {**TINY, "ffn_dim": 96, "word_embed_proj_dim": 48},
    "bloom": {**TINY, "n_head": 4, "n_layer": 2},
    "falcon": {**HEADED, "multi_query": True, "new_decoder_architecture": False},
    "mpt": {"vocab_size": VOCABULARY, "d_model": 48, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "olmo": TINY,
    "olmo2": TINY,
    "granite": {**TINY, "attention_multiplier": 0.25, "embedding_multiplier": 2.0, "logits_scaling": 2.0},
    "starcoder2": {**TINY, "sliding_window": WINDOW},
    "stablelm": {**HEADED, "partial_rotary_factor": 0.5},
    "cohere": TINY,
    "cohere2": {**TINY, **WINDOWED},
    "glm": {**TINY, "partial_rotary_factor": 0.5},
    "nemotron": TINY,
    "smollm3": TINY,
    "exaone4": {**TINY, **WINDOWED},
    "mixtral": {**TINY, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**TINY, **FEW_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 32},
    "qwen3_moe": {**TINY, **FEW_EXPERTS, "num_experts": 4},
    "olmoe": {**HEADED, **FEW_EXPERTS, "num_experts": 4},
    "gpt_oss": {**TINY, **WINDOWED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": {
        **HEADED, **FEW_EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 16, "num_key_value_heads": 4,
    },
    "falcon_h1": {
        **TINY, "mamba_d_ssm": 48, "mamba_n_heads": 4, "mamba_d_head": 12, "mamba_d_state": 8, "mamba_chunk_size": 16,
    },
    "jamba": {
        **TINY, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "num_experts": 4, "mamba_d_state": 8, "use_mamba_kernels": False,
    },
    "bamba": {
        **TINY, "attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 24, "mamba_d_state": 8,
        "mamba_n_groups": 1, "mamba_chunk_size": 16,
    },
    "lfm2": {**TINY, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "qwen3_next": {
        **TINY, **FEW_EXPERTS, "num_experts": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "shared_expert_intermediate_size": 32,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "recurrent_gemma": {
        **TINY, "lru_width": 48, "attention_window_size": WINDOW, "block_types": ["recurrent", "attention"],
    },
    "bart": {
        "vocab_size": VOCABULARY, "d_model": 48, "decoder_layers": 2, "encoder_layers": 2,
        "decoder_attention_heads": 4, "encoder_attention_heads": 4, "decoder_ffn_dim": 96,
        "max_position_embeddings": 512,
    },
    "roformer": {
        "vocab_size": VOCABULARY, "hidden_size": 48, "embedding_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 512, "is_decoder": True,
    },
}  # fmt: skip
STYLES = ("linear", "matmul", "einsum", "bmm", "conv1d")  # of writing a product, in a model of one's own
EMBEDDED = "embedded"  # the trained model that comes with kvbench
OWN = "own"  # before a style: own-einsum


@dataclass(frozen=True)
class Shape:
    """Which model: its architecture or `embedded` or `own-STYLE`, what differs, its seed and how wide its weights."""

    kind: str
    seed: int = 0
    width: float = 1.5  # a weight's spread times the square root of what it sums over
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether it is a model of one's own."""
        return self.kind.startswith(OWN)


def build(shape: Shape, dtype: torch.dtype) -> Any:
    """The model in a type: the same weights, rounded, whatever the type."""
    if shape.is_own:
        return OwnModel(shape.kind.removeprefix(f"{OWN}-"), shape.seed, shape.width, **shape.changes).to(dtype).eval()
    from transformers import AutoConfig, AutoModelForCausalLM

    if shape.kind == EMBEDDED:
        from kvbench.models.checkpoint import EMBEDDED as FOLDER

        return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=dtype).eval()
    config = AutoConfig.for_model(shape.kind, **{**SHAPES[shape.kind], **shape.changes})
    torch.manual_seed(shape.seed)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    generator = torch.Generator().manual_seed(shape.seed)
    spread = shape.width / math.sqrt(TINY["hidden_size"])
    for name, parameter in model.named_parameters():
        # A norm's or a state's own parameters are not of that size: those of one dimension stay as the class made them.
        if parameter.ndim >= 2 and "conv" not in name and "A_log" not in name:
            parameter.data = (torch.randn(parameter.shape, generator=generator) * spread).to(parameter.dtype)
    return model.requires_grad_(False)


def wider(shape: Shape, model: Any, dtype: torch.dtype) -> Any:
    """The same model in a wider type, with the very weights that `model` has."""
    wide = build(shape, dtype)
    wide.load_state_dict({name: tensor.to(dtype) for name, tensor in model.state_dict().items()})
    if dtype == torch.float64 and hasattr(wide, "set_experts_implementation"):
        wide.set_experts_implementation("eager")  # grouped products know no float64
    return wide


class OwnCache:
    """Keys and values of each layer, as somebody writes them."""

    def __init__(self, layers: int) -> None:
        self.layers: list[Any] = [None] * layers

    @property
    def length(self) -> int:
        """Tokens of each sequence that it holds."""
        return 0 if self.layers[0] is None else int(self.layers[0][0].shape[2])

    def add(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps what is new; keys and values of all tokens, as the attention is to see them."""
        keys, values = kept(keys, values, layer)
        if self.layers[layer] is not None:
            keys, values = (torch.cat(pair, 2) for pair in zip(self.layers[layer], (keys, values), strict=True))
        self.layers[layer] = keys, values
        return shown(keys, values, layer)


class OwnModel(torch.nn.Module):
    """Two layers of attention with rotary positions, and products in one of `STYLES`; see `kvbench.own_model`."""

    vocab_size = VOCABULARY
    max_context = 512

    def __init__(self, style: str, seed: int, width: float, layers: int = 2, hidden: int = 48, heads: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.multiply = PRODUCTS[style]
        self.heads, self.eps, self.scale = heads, 1e-6, (hidden // heads) ** -0.5

        def made(*size: int) -> torch.nn.Parameter:
            drawn = torch.randn(*size, generator=generator) * width / math.sqrt(size[0])
            return torch.nn.Parameter(drawn, requires_grad=False)

        self.table = torch.nn.Parameter(torch.randn(VOCABULARY, hidden, generator=generator), requires_grad=False)
        self.weights = torch.nn.ParameterList(
            made(*size)
            for _ in range(layers)
            for size in ((hidden, 3 * hidden), (hidden, hidden), (hidden, 2 * hidden), (2 * hidden, hidden))
        )
        self.head = made(hidden, VOCABULARY)

    def new_cache(self, batch_size: int) -> OwnCache:
        """An empty one."""
        return OwnCache(len(self.weights) // 4)

    def forward(self, ids: torch.Tensor, cache: OwnCache | None = None) -> torch.Tensor:
        """Logits of the last position."""
        if cache is None:
            return self.logits(ids, None)
        with noted(self, ids.shape[1], len(ids)):
            return out(self.logits(ids, cache))

    def logits(self, ids: torch.Tensor, cache: OwnCache | None) -> torch.Tensor:
        """One pass."""
        past = 0 if cache is None else cache.length
        hidden = self.table[ids]
        places = torch.arange(past, past + ids.shape[1]).expand(ids.shape)
        angles = self.angles(places if cache is None else at_place(places))
        for layer in range(len(self.weights) // 4):
            qkv, out, up, down = self.weights[4 * layer : 4 * layer + 4]
            parts = self.multiply(self.norm(hidden), qkv).chunk(3, -1)
            query, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
            query, keys = rotated(query, angles), rotated(keys, angles)
            if cache is not None:
                keys, values = cache.add(layer, keys, values)
            rows, columns = query.shape[2], keys.shape[2]
            mask = torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows)
            seen = functional.scaled_dot_product_attention(query, keys, values, mask, scale=self.scale)
            hidden = hidden + self.multiply(seen.transpose(1, 2).flatten(2), out)
            hidden = hidden + self.multiply(functional.gelu(self.multiply(self.norm(hidden), up)), down)
        return self.multiply(self.norm(hidden[:, -1:]), self.head)

    def norm(self, hidden: torch.Tensor) -> torch.Tensor:
        """Root mean square norm."""
        return hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.eps)

    def angles(self, places: torch.Tensor) -> torch.Tensor:
        """Of every place (batch, 1, seq, head_dim / 2), in float32 whatever the model's type."""
        half = self.table.shape[1] // self.heads // 2
        return places[:, None, :, None].float() * 1e4 ** (-torch.arange(half).float() / half)


def rotated(states: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Queries or keys (batch, heads, seq, head_dim), turned to their places."""
    cosine, sine = angles.cos().to(states.dtype), angles.sin().to(states.dtype)
    first, second = states.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def product_by_rows(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.bmm(states, weight.expand(len(states), -1, -1))


def convolution(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.conv1d(states.transpose(1, 2), weight.T.unsqueeze(-1)).transpose(1, 2)


PRODUCTS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "linear": lambda states, weight: functional.linear(states, weight.T),
    "matmul": lambda states, weight: states @ weight,
    "einsum": lambda states, weight: torch.einsum("bti,io->bto", states, weight),
    "bmm": product_by_rows,
    "conv1d": convolution,
}
