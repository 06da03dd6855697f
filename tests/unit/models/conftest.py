"""Small models of real architectures, and folders in the layout of the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from kvbench.models.loading import quietly
from kvbench.models.tokenizers import byte_tokenizer

SHAPE = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
GPT2_SHAPE = {
    "vocab_size": 320, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128, "bos_token_id": 256,
    "eos_token_id": 257,
}  # fmt: skip
DIFFERENCES: dict[str, dict[str, Any]] = {
    "gemma": {"num_key_value_heads": 1, "head_dim": 16},
    "llama": {},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": 8},
    "gemma2": {"sliding_window": 8, "head_dim": 16},
    "gemma3_text": {"sliding_window": 8, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
}
ARCHITECTURES = ("gpt2", *DIFFERENCES)


def architecture(model_type: str, **changes: Any) -> dict[str, Any]:
    """A small architecture as a mapping, the way `conf/model` writes it."""
    shape = GPT2_SHAPE if model_type == "gpt2" else {**SHAPE, **DIFFERENCES[model_type]}
    return {"model_type": model_type, **shape, **changes}


@pytest.fixture
def tiny_config() -> Callable[..., Any]:
    def make(model_type: str, **changes: Any) -> Any:
        shape = architecture(model_type, **changes)
        return AutoConfig.for_model(shape.pop("model_type"), **shape)

    return make


@pytest.fixture(scope="session")
def saved_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float16 llama with a tokenizer, in one safetensors file. Copy it before changing it."""
    return _save(tmp_path_factory.mktemp("llama"), "5GB")


@pytest.fixture
def llama_folder(saved_llama: Path, tmp_path: Path) -> Path:
    """A llama's folder to break."""
    return Path(shutil.copytree(saved_llama, tmp_path / "llama"))


@pytest.fixture
def sharded_folder(tmp_path: Path) -> Path:
    """The same llama in several safetensors files with an index."""
    return _save(tmp_path / "sharded", "20KB")


@pytest.fixture
def edit_config() -> Callable[..., None]:
    def edit(folder: Path, **changes: Any) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


def _save(folder: Path, shard_size: str) -> Path:
    shape = architecture("llama")
    torch.manual_seed(0)
    with quietly():
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(shape.pop("model_type"), **shape), dtype=torch.float16
        )
        model.save_pretrained(folder, max_shard_size=shard_size)
        byte_tokenizer(320).save_pretrained(folder)
    return folder
