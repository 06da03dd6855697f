"""A model that takes padding for text is named, with what to do; others are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kvbench

QUICK: dict[str, Any] = {
    "new_tokens": 2,
    "blocks": 1,
    "warmup": 0,
    "step_lane": False,
    "energy_s": 0.0,
    "batch_size": 2,
}
BART: dict[str, Any] = {
    "vocab_size": 97,
    "d_model": 32,
    "decoder_layers": 1,
    "encoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
}
UNEQUAL, EQUAL = [[5, 6, 7, 8, 9, 10], [11, 12]], [[5, 6, 7], [11, 12, 13]]


def told(model: Any, prompts: list[list[int]], **changes: Any) -> list[str]:
    record = kvbench.measure(model, prompts=prompts, modes=("nocache",), **{**QUICK, **changes})
    return [warning.detail for warning in record.warnings if warning.code == "padding_is_text"]


def test_a_model_that_takes_padding_for_text_is_named(tiny_model: Callable[..., Any]) -> None:
    bart = tiny_model("bart", **BART)
    [said] = told(bart, UNEQUAL)
    assert said.startswith("BartForCausalLM takes padding for text: padded to the length of its batch, prompt 2 gets ")
    assert "set workload.batch_size=1, or give prompts of equal length" in said
    assert [] == told(bart, EQUAL)
    assert [] == told(bart, UNEQUAL, batch_size=1)


def test_a_model_that_leaves_padding_out_is_not(tiny_model: Callable[..., Any]) -> None:
    assert [] == told(tiny_model("llama", num_hidden_layers=1), UNEQUAL)


def test_slopes_by_a_mask_reach_over_a_static_cache(tiny_model: Callable[..., Any]) -> None:
    """Bloom beside a static cache and prompts of unequal length once ended in a RuntimeError of its own."""
    bloom = tiny_model("bloom", vocab_size=97, hidden_size=32, n_layer=1, n_head=4)
    arms = [{"mode": "nocache"}, {"mode": "cached", "cache": "static"}]
    record = kvbench.measure(bloom, prompts=UNEQUAL, arms=arms, **QUICK)
    assert record.comparison is not None
    assert record.comparison.agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
