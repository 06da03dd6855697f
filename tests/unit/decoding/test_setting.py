"""An attention is the one that it is called, or it is refused."""

from __future__ import annotations

from types import SimpleNamespace

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


def test_the_attention_is_that_of_the_part_that_decodes_text() -> None:
    """GOT-OCR2 sees pictures by eager attention alone: its text was refused sdpa, and eager was measured as sdpa."""

    class Pictures:
        config = SimpleNamespace(_attn_implementation="eager")

        def set_attn_implementation(self, name: str) -> None:
            text._attn_implementation = name

    text = SimpleNamespace(_attn_implementation="sdpa")
    Pictures.config.get_text_config = lambda **_: text
    model = Pictures()
    for asked, expected in (("auto", "sdpa"), ("eager", "eager"), ("math", "sdpa"), ("grouped", "grouped")):
        SessionSettings(asked, "sdpa", 0).apply(model)
        assert expected == text._attn_implementation
