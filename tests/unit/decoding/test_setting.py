"""An attention is the one that it is called, or it is refused."""

from __future__ import annotations

import pytest
from transformers import GPTNeoConfig, GPTNeoForCausalLM

from kvbench.decoding.settings import SessionSettings
from kvbench.errors import ModelUnavailable


@pytest.mark.parametrize("attention", ["sdpa", "math", "grouped"])
def test_a_model_with_one_attention_is_not_measured_under_the_name_of_another(attention: str) -> None:
    """transformers keeps GPT-Neo's own without a word: four arms once were one, and all VALID."""
    config = GPTNeoConfig(vocab_size=50, hidden_size=16, num_layers=1, num_heads=2, attention_types=[[["global"], 1]])
    model = GPTNeoForCausalLM(config)
    own = str(model.config._attn_implementation)
    for name in ("auto", "eager"):
        SessionSettings(name, own, 0).apply(model)
    with pytest.raises(ModelUnavailable, match=f"attention={attention}: GPTNeoForCausalLM has eager attention alone"):
        SessionSettings(attention, own, 0).apply(model)
