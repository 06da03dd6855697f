"""Small Yuans with weights wide enough that a mistake shows, and folders as the checkpoint was published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import kvbench.models  # noqa: F401 - registers the architecture
from kvbench.models.yuan import YuanForCausalLM, rotary_frequencies
from kvbench.models.yuan_config import YuanConfig

EOD = 7
SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 128,
    "pad_token_id": EOD,
    "bos_token_id": EOD,
    "eos_token_id": EOD,
    "eod_token": EOD,
    "sep_token": 8,
    "rms_norm_eps": 1e-6,
    "reset_attention_mask": True,
    "reset_position_ids": True,
}
# What the published folder's config.json says besides.
PUBLISHED: dict[str, Any] = {
    "_from_model_config": True,
    "architectures": ["YuanForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_yuan.YuanConfig",
        "AutoModelForCausalLM": "yuan_hf_model.YuanForCausalLM",
    },
    "causal_mask": True,
    "dropout": 0.1,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "mask_token_id": EOD,
    "model_type": "yuan",
    "tie_word_embeddings": True,
    "tokenizer_class": "YuanTokenizer",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.30.0.dev0",
    "use_cache": True,
    "use_flash_attention": False,
    "use_loss_mask": False,
}


def small_yuan(dtype: torch.dtype = torch.float64, **changes: Any) -> YuanForCausalLM:
    """The model with weights of standard deviation 1.5 / √hidden and biases and norms that are not at rest."""
    config = YuanConfig(**{**SHAPE, **changes})
    torch.manual_seed(11)
    model = YuanForCausalLM(config)
    width = 1.5 / config.hidden_size**0.5
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=width)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.to(dtype).requires_grad_(False).eval()


def published_folder(folder: Path, model: YuanForCausalLM, *, shards: int = 1, leave_out: str = "") -> Path:
    """The model as its makers published it: their names, a copy of the tied head, the rotary frequencies, bfloat16."""
    folder.mkdir()
    shape = {key: getattr(model.config, key) for key in SHAPE}
    (folder / "config.json").write_text(json.dumps({**PUBLISHED, **shape}))
    tensors = {name: tensor.to(torch.bfloat16).clone().contiguous() for name, tensor in model.state_dict().items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    for layer in range(model.config.num_hidden_layers):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = rotary_frequencies(
            model.config, torch.device("cpu"), torch.float32
        )
    tensors = {name: tensor for name, tensor in tensors.items() if not leave_out or leave_out not in name}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map = {
        name: f"model-{index % shards + 1:05}-of-{shards:05}.safetensors" for index, name in enumerate(tensors)
    }
    for file in set(weight_map.values()):
        of_file = {name: tensors[name] for name, place in weight_map.items() if place == file}
        save_file(of_file, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
