"""Tiny models of any causal architecture that transformers has, wide enough that a fault in a cache shows.

A config is made of its class's own defaults, with every size that `TINY` knows by name made small. Lists with an entry
for each layer are cut so that every kind of layer stays. What an architecture needs besides is in `ALSO`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, CONTEXT = 320, 64, 4, 2, 16, 4, 256

# Sizes that architectures name in many ways: the tiny value, and the names that get it.
SIZES: tuple[tuple[int, str], ...] = (
    (VOCABULARY, "vocab_size decoder_vocab_size unpadded_vocab_size vocab_size_per_layer_input"),
    (
        HIDDEN,
        "hidden_size n_embd d_model dim embed_dim emb_dim embedding_size word_embed_proj_dim lru_width"
        " attention_hidden_size backbone_hidden_size projection_dim",
    ),
    (
        2 * HIDDEN,
        "intermediate_size n_inner ffn_dim ffn_hidden_size d_ff dff dim_ff decoder_ffn_dim encoder_ffn_dim"
        " feed_forward_size d_inner intermediate_size_mlp dense_intermediate_size mlp_dim",
    ),
    (
        32,
        "moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size"
        " shared_experts_intermediate_size shared_intermediate_size moe_shared_expert_intermediate_size q_lora_rank",
    ),
    (
        LAYERS,
        "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers"
        " num_encoder_layers depth num_blocks",
    ),
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads encoder_attention_heads attention_heads decoder_attention_heads"
        " num_encoder_attention_heads num_decoder_attention_heads index_n_heads swa_num_attention_heads"
        " linear_num_value_heads linear_num_heads",
    ),
    (KV_HEADS, "num_key_value_heads num_kv_heads n_kv_heads kv_n_heads swa_num_key_value_heads"),
    (
        HEAD_DIM,
        "head_dim attention_head_dim swa_head_dim global_head_dim dim_head d_head d_kv kv_lora_rank qk_nope_head_dim"
        " v_head_dim index_head_dim o_lora_rank mamba_d_head mamba_head_dim mamba_headdim linear_key_head_dim"
        " linear_value_head_dim linear_head_dim image_size num_mel_bins codebook_size",
    ),
    (
        CONTEXT,
        "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions context_length model_max_length",
    ),
    # Windows longer than any run here: short ones are a column of their own.
    (128, "sliding_window attention_window_size local_attention window_size sliding_window_size attention_chunk_size"),
    (512, "index_topk"),
    (24, "qk_head_dim"),
    (
        8,
        "qk_rope_head_dim state_size ssm_state_size mamba_d_state time_step_rank mamba_dt_rank mamba_n_heads"
        " mamba_num_heads chunk_size mamba_chunk_size rotary_dim hidden_size_per_layer_input",
    ),
    (4, "num_experts n_routed_experts num_local_experts moe_num_experts patch_size"),
    (
        2,
        "num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k top_k_experts linear_num_key_heads"
        " n_mamba_heads o_groups",
    ),
    (
        1,
        "n_shared_experts num_shared_experts moe_num_shared_experts zero_expert_num n_group topk_group"
        " num_expert_group first_k_dense_replace num_dense_layers moe_layer_start_index n_groups",
    ),
)
TINY = {name: size for size, names in SIZES for name in names.split()}

# What some architectures need besides, or want otherwise.
LATENT = {"head_dim": 8, "num_key_value_heads": HEADS}  # latent attention gives every head keys of its own
PATTERN = ["sliding_attention", "full_attention"] * 2
DOTS3 = LATENT | {  # its layers with a window have sizes of their own
    "swa_num_attention_heads": HEADS, "swa_num_key_value_heads": HEADS, "swa_q_lora_rank": 32,
    "swa_kv_lora_rank": HEAD_DIM, "swa_head_dim": 24, "swa_qk_nope_head_dim": HEAD_DIM,
    "swa_v_head_dim": HEAD_DIM,
}  # fmt: skip
ALSO: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {
        "encoder_hash_byte_group_vocab": 64,
        "patch_in_forward": False,
        "encoder_config": {"hidden_size_global": HIDDEN},
        "decoder_config": {"hidden_size_global": HIDDEN},
    },
    "cohere_compass_text": {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
        }
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "n_routed_experts": 4},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "clip_qkv": 8.0}},
    "dory": {"n_input_layers": 1, "n_recurrent_layers": 2, "n_output_layers": 1},
    "dots3_note": {
        "text_config": DOTS3,
        "vision_config": {"adapter_in_dim": HIDDEN, "adapter_out_dim": HIDDEN},
        "audio_config": {"adapter_out_dim": HIDDEN, "adapter_input_size": HIDDEN},
    },
    "dots3_note_text": DOTS3,
    "falcon_h1": {"mamba_d_ssm": 2 * HIDDEN},
    "gemma3n": {"text_config": {"layer_types": PATTERN, "num_kv_shared_layers": 2}},
    "gemma3n_text": {"layer_types": PATTERN, "num_kv_shared_layers": 2},
    "gemma4_assistant": {
        "text_config": {
            "model_type": "gemma4_text", "layer_types": PATTERN, "num_hidden_layers": LAYERS,
            "num_kv_shared_layers": LAYERS, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0,
        }
    },
    "gemma4_text": {"layer_types": PATTERN},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8},
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 512,
            "indexer_compress_ratio": 4,
        }
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 512,
        "indexer_compress_ratio": 4,
    },
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "roc_bert": {"pronunciation_embed_dim": 16, "shape_embed_dim": 16},
    "sarvam_mla": LATENT,
    "xlstm": {"hidden_size": 2 * HIDDEN, "embedding_dim": 2 * HIDDEN},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 2 * HIDDEN, "attention_head_dim": 2 * HEAD_DIM, "num_key_value_heads": HEADS},
    "zamba2": {
        "attention_hidden_size": 2 * HIDDEN, "attention_head_dim": 2 * HEAD_DIM, "num_key_value_heads": HEADS,
        "n_mamba_heads": 8,
    },
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
SPECIAL_TOKENS = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "sep_token_id": 2,
}
EVEN_WHERE_NONE = ("head_dim", "num_key_value_heads")  # some architectures do not do without


def tiny_config(model_type: str, **changes: Any) -> Any:
    """A config of the model type with small sizes; `changes` are made in the part that the decoder reads."""
    return _tiny(CONFIG_MAPPING[model_type], ALSO.get(model_type, {}), changes)


def tiny_model(config: Any, seed: int = 0) -> Any:
    """A float32 model in eval mode whose matrices have a spread of 1.5/sqrt(hidden): the usual 0.02 hides faults."""
    torch.manual_seed(seed)
    if hasattr(config, "audio_encoder"):  # MusicGen, whose class is in the mapping and takes its decoder's config alone
        model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._from_config(config.decoder, dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    spread = 1.5 / math.sqrt(HIDDEN)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and not any(kind in name for kind in ("conv", "A_log", "time_decay")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return model.requires_grad_(False).eval()


def _tiny(kind: Any, also: dict[str, Any], changes: dict[str, Any]) -> Any:
    try:
        usual = kind()
    except Exception:  # a class whose defaults it refuses itself (Gemma 4's assistant)
        usual = kind(**also)
    layers = next((getattr(usual, name) for name in ("num_hidden_layers", "num_layers") if hasattr(usual, name)), None)
    known, values = vars(usual), {}
    for name, value in known.items():
        if hasattr(value, "to_dict"):
            values[name] = _tiny(type(value), also.get(name, {}), {})
        elif name in SPECIAL_TOKENS:
            values[name] = SPECIAL_TOKENS[name]
        elif name in TINY and (value is not None or name in EVEN_WHERE_NONE):
            values[name] = TINY[name]
        elif isinstance(value, (list, tuple)) and layers and len(value) == layers and layers > LAYERS:
            values[name] = _every_kind(list(value))
    if "is_decoder" in known:  # else encoders look ahead
        values["is_decoder"] = True
    if "kv_lora_rank" in known:
        values |= {name: value for name, value in LATENT.items() if name in known}
    towers = {name for name, value in known.items() if hasattr(value, "to_dict")}
    values |= {name: value for name, value in also.items() if name not in towers}
    return kind(**{**values, **changes})


def _every_kind(entries: list[Any]) -> list[Any]:
    """As many entries as there are layers, the kinds in the order in which they come."""
    kinds = list(dict.fromkeys(map(str, entries)))
    first = [next(entry for entry in entries if str(entry) == kind) for kind in kinds[:LAYERS]]
    return [first[index * len(first) // LAYERS] for index in range(LAYERS)]
