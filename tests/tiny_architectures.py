"""Small shapes of architectures whose caches differ, with numbers that differ too, so that no two can be mistaken."""

from __future__ import annotations

from typing import Any

SHAPE: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
SEQ2SEQ: dict[str, Any] = {
    "vocab_size": 96, "d_model": 32, "encoder_layers": 4, "decoder_layers": 3, "encoder_attention_heads": 2,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 56, "max_position_embeddings": 128,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1,
}  # fmt: skip
LATENT = {
    "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 4, "qk_nope_head_dim": 12,
    "v_head_dim": 8, "head_dim": None,
}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
ROUTED = {
    "moe_intermediate_size": 24, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 6,
    "linear_conv_kernel_dim": 3,
}  # fmt: skip
MAMBA2 = {
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 2, "mamba_d_state": 6, "mamba_d_conv": 3,
    "mamba_chunk_size": 8,
}  # fmt: skip
ALTERNATING = ["linear_attention", "full_attention"] * 2

# By model type: what differs from `SHAPE`. A shape that lists "d_model" is whole.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bart": SEQ2SEQ,
    "whisper": {
        **SEQ2SEQ, "max_target_positions": 128, "num_hidden_layers": 4, "max_source_positions": 16, "num_mel_bins": 8,
    },
    "trocr": {**SEQ2SEQ, "cross_attention_hidden_size": 32},
    "llama": {},
    "bert": {"is_decoder": True, "num_key_value_heads": None, "head_dim": None},
    "phi": {},
    "git": {
        "num_key_value_heads": None, "head_dim": None,
        "vision_config": {
            "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 32, "patch_size": 16,
        },
    },
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "dbrx": {
        "d_model": 32, "n_heads": 4, "n_layers": 3, "vocab_size": 96, "max_seq_len": 128,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v3": {**LATENT, **ROUTED},
    "hy_v4": {
        **LATENT, **ROUTED, "index_head_dim": 10, "index_n_heads": 4, "index_topk": 6,
        "indexer_types": ["full", "shared", "full", "shared"],
    },
    "gemma4_text": {
        "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2,
        "per_layer_config": {1: {"head_dim": 16}, 3: {"head_dim": 16}}, "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 96,
    },
    "dots3_note_text": {
        **LATENT, **ROUTED, "head_dim": 24, "index_head_dim": 10, "index_n_heads": 4, "index_topk": 6,
        "sliding_window": 8, "shared_experts_intermediate_size": 24,
        "layer_types": ["indexed_attention", "indexed_attention", "sliding_attention", "indexed_attention"],
        "per_layer_config": {
            2: {"num_attention_heads": 2, "num_key_value_heads": 2, "kv_lora_rank": 20, "qk_nope_head_dim": 20}
        },
    },
    "mimo_v2_flash": {**ROUTED, "sliding_window": 8, "v_head_dim": 6},
    "llama4_text": {
        "attention_chunk_size": 8, "intermediate_size_mlp": 40, "num_local_experts": 4, "num_experts_per_tok": 1,
    },
    "bamba": {**MAMBA2, "attn_layer_indices": [1, 3], "head_dim": None},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 6, "mamba_d_conv": 3, "mamba_dt_rank": 4,
        "num_experts": 4, "head_dim": None,
    },
    "nemotron_h": {
        "layer_types": ["linear_attention", "moe", "full_attention", "mlp"], "mamba_num_heads": 4, "mamba_head_dim": 12,
        "n_groups": 2, "ssm_state_size": 6, "conv_kernel": 3, "chunk_size": 8, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 24,
    },
    "qwen3_next": {**DELTA, **EXPERTS, "shared_expert_intermediate_size": 24},
    "kimi_linear": {
        **LATENT, "layer_types": ALTERNATING, "linear_num_heads": 4, "linear_head_dim": 6, "linear_conv_kernel_dim": 3,
        "num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 24,
    },
    "lfm2_moe": {
        **EXPERTS, "layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 5, "num_dense_layers": 1,
        "head_dim": None,
    },
    "zaya": {"num_experts": 4, "moe_intermediate_size": 24},
    "inkling_text": {
        "swa_head_dim": 8, "swa_num_key_value_heads": 4, "swa_num_attention_heads": 8, "conv_kernel_size": 3,
        "sliding_window": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    },
    "qwen4_exp_text": {
        **DELTA, **EXPERTS, "shared_expert_intermediate_size": 24, "indexer_n_heads": 2, "indexer_kv_heads": 1,
        "indexer_head_dim": 10, "indexer_budget": 64, "indexer_compress_ratio": 4, "ple_layer_ids": [],
        "layer_types": ["linear_attention", "indexed_attention", "indexed_attention", "linear_attention"],
    },
    "laguna": {
        **EXPERTS, "shared_expert_intermediate_size": 24, "num_attention_heads_per_layer": [4, 6, 4, 8],
    },
    "hrm_text": {
        "num_key_value_heads": None, "num_hidden_layers": None, "num_layers_per_stack": 2,
    },
    "dory": {
        "num_hidden_layers": 6, "n_input_layers": 2, "n_recurrent_layers": 2, "n_output_layers": 2, "sliding_window": 8,
        "layer_types": ["sliding_attention", "mlp", "full_attention", "mlp", "sliding_attention", "mlp"],
    },
}  # fmt: skip


def shape_of(model_type: str) -> dict[str, Any]:
    """The arguments of a small config of this type."""
    changes = ARCHITECTURES[model_type]
    whole = changes if "d_model" in changes else {**SHAPE, **changes}
    return {name: value for name, value in whole.items() if value is not None}
