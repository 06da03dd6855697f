"""What a rank holds of a shared model is told from shapes and plan; what cannot be shared is refused before loading."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from kvbench.errors import ModelUnavailable
from kvbench.model_facts import facts_from_config, kv_cache_bytes
from kvbench.models.tensor_parallel import NOT_PREDICTED, of_one_rank, predicted_rank_bytes, require_shareable

PLAN = {
    "lm_head": "colwise_gather_output",
    "model.embed_tokens": "embedding_rowwise",
    "model.layers.*.self_attn.q_proj": "colwise",
    "model.layers.*.self_attn.o_proj": "rowwise",
    "model.layers.*.mlp.down_proj": "rowwise",
}


def llama(**shape: Any) -> LlamaConfig:
    small = {"vocab_size": 30, "hidden_size": 48, "intermediate_size": 50, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4, "tie_word_embeddings": False}
    return LlamaConfig(**(small | heads | shape))


@pytest.mark.parametrize("ranks", [2, 4])
def test_what_the_plan_cuts_is_divided_and_all_else_is_whole(ranks: int) -> None:
    config = llama(attention_bias=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    hidden, layers, bytes_ = 48, 2, 4
    kv = 4 * 4
    whole = (2 * layers + 1) * hidden + layers * (2 * (kv * hidden + kv) + 2 * hidden * 50 + hidden)
    for rank in range(ranks):
        vocabulary = [len(part) for part in torch.arange(30).chunk(ranks)][rank]
        middle = [len(part) for part in torch.arange(50).chunk(ranks)][rank]
        cut = 2 * vocabulary * hidden + layers * (2 * hidden * hidden // ranks + hidden // ranks + hidden * middle)
        assert bytes_ * (whole + cut) == predicted_rank_bytes(model, PLAN, rank, ranks)


def test_a_model_without_a_plan_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match=r"transformers has no tensor-parallel plan for small \(gpt2\)"):
        require_shareable(GPT2Config(n_layer=1), 2, "small", trust_remote_code=False)


def test_heads_that_ranks_cannot_share_evenly_are_refused_with_the_numbers_that_can() -> None:
    with pytest.raises(ModelUnavailable, match=r"has 4 key-value heads, .* use model.tensor_parallel=1 or 2 or 4"):
        require_shareable(llama(), 3, "small", trust_remote_code=False)
    assert "model.layers.*.self_attn.q_proj" in require_shareable(llama(), 4, "small", trust_remote_code=False)


def test_a_rank_has_its_share_of_the_heads_and_of_the_cache() -> None:
    facts = facts_from_config(llama(), name="m", source="path", dtype="float32")
    one = of_one_rank(facts, 2)
    assert (2, 6) == (one.kv_heads, one.attention_heads)
    assert kv_cache_bytes(facts, 3, 20) == 2 * (kv_cache_bytes(one, 3, 20) or 0)
    assert facts is of_one_rank(facts, 1)


def test_a_cache_that_is_not_made_of_heads_is_not_predicted() -> None:
    facts = facts_from_config(llama(), name="m", source="path", dtype="float32")
    other = replace(facts, cache_layers=tuple(replace(each, kind="mamba") for each in facts.cache_layers))
    one = of_one_rank(other, 2)
    assert (None, NOT_PREDICTED) == (one.kv_bytes_per_token, one.null_reasons["kv_bytes_per_token"])
