"""The peers that kvbench is held against decode the same thing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from gpt_fast_recipe import Recipe, refusal

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}


def small(kind: str, **changes: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SHAPE, pad_token_id=0, initializer_range=0.2, **changes)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("kind", ["gemma", "llama", "mistral", "qwen3"])
@torch.no_grad()
def test_the_recipe_writes_what_the_model_writes(kind: str) -> None:
    model = small(kind)
    ids = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(1))
    recipe = Recipe(model, 2, 32, compiled=False)
    position = torch.arange(9)
    newest, whole = ids, ids
    for _ in range(12):
        newest = recipe.next_token(newest, position)
        whole = torch.cat([whole, newest], dim=1)
        position = position[-1:] + 1
    expected = ids
    for _ in range(12):
        logits = model(input_ids=expected, use_cache=False).logits[:, -1]
        expected = torch.cat([expected, logits.argmax(-1, keepdim=True)], dim=1)
    assert expected.tolist() == whole.tolist()


def test_the_recipe_is_left_out_with_a_reason_where_it_would_be_another_model() -> None:
    assert None is refusal(small("llama"), 32)
    assert "has no sliding window" in str(refusal(small("mistral", sliding_window=16), 32))
    assert "not for gpt2" in str(refusal(type("GPT2", (), {"config": type("C", (), {"model_type": "gpt2"})})(), 32))
    assert "has no biases" in str(refusal(small("llama", attention_bias=True), 32))
