"""Grouped attention computes what transformers' own eager attention computes, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as eager_with_sinks

from kvbench.config.schema import SamplingConfig
from kvbench.decoding.caches import CacheMaker
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.logit_differences import largest_difference, largest_logit
from kvbench.decoding.loops import CachedLoop
from kvbench.decoding.sampling import Forced, Sampler
from kvbench.decoding.settings import GROUPED, SessionSettings, grouped_attention
from kvbench.decoding.token_path import follow

PROMPTS = {"equal": [[5, 6, 7, 8, 9, 10]], "unequal": [[5, 6, 7, 8, 9, 10], [12], [13, 14, 15]]}
PATH = [21, 22, 23, 24, 25]
HEADS = {"GQA": 2, "MQA": 1, "MHA": 4}
BF16_ROUNDING = 0.05  # three layers of matrices as wide as the tiny models'


def logits(model: Any, attention: str, cache: str, prompts: list[list[int]]) -> list[torch.Tensor]:
    forward, forced = Forward(model), Forced(torch.tensor([PATH] * len(prompts)))
    setting = SessionSettings(attention, model.config._attn_implementation, 0)
    decoder = CachedLoop(forward, forced or Sampler(SamplingConfig()), setting, 0, caches=CacheMaker(forward, cache))
    return follow(decoder, forced, make_batch(0, prompts, len(PATH), torch.device("cpu")))


def difference(model: Any, cache: str, prompts: list[list[int]]) -> float:
    eager = logits(model, "eager", cache, prompts)
    return largest_difference(eager, logits(model, GROUPED, cache, prompts)) / largest_logit(eager)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
class TestAModel:
    @pytest.mark.parametrize("kv_heads", HEADS.values(), ids=HEADS)
    def test_of_any_grouping_agrees_with_eager(
        self, tiny_model: Callable[..., Any], kv_heads: int, prompts: list[list[int]], cache: str
    ) -> None:
        model = tiny_model("llama", num_key_value_heads=kv_heads)
        assert difference(model, cache, prompts) < 1e-5
        assert difference(model.bfloat16(), cache, prompts) < BF16_ROUNDING

    @pytest.mark.parametrize("architecture", ["gemma2", "mistral"])
    def test_that_caps_its_scores_or_slides_a_window_agrees_with_eager(
        self, tiny_model: Callable[..., Any], architecture: str, prompts: list[list[int]], cache: str
    ) -> None:
        assert difference(tiny_model(architecture, sliding_window=4), cache, prompts) < 1e-5


class TestTheFunction:
    @pytest.mark.parametrize("seq", [1, 3])
    def test_gives_to_sinks_what_gpt_oss_gives_them(self, seq: int) -> None:
        torch.manual_seed(3)
        query, key, value = torch.randn(2, 4, seq, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
        sinks, hidden = torch.randn(4), torch.zeros(2, 1, seq, 7)
        hidden[:, :, :, 5:] = torch.finfo(torch.float32).min
        module = SimpleNamespace(num_key_value_groups=2, sinks=sinks, training=False)
        expected, _ = eager_with_sinks(module, query, key, value, hidden, scaling=0.3)  # type: ignore[arg-type]
        found, _ = grouped_attention(module, query, key, value, hidden == 0, scaling=0.3, s_aux=sinks)  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected)
        without, _ = grouped_attention(module, query, key, value, hidden == 0, scaling=0.3)  # type: ignore[arg-type]
        assert not torch.allclose(without, expected, atol=1e-2)

    def test_refuses_a_bias_by_position_rather_than_leave_it_out(self) -> None:
        ones = torch.ones(1, 2, 1, 4)
        with pytest.raises(ValueError, match="attention=grouped knows no bias by position"):
            grouped_attention(torch.nn.Identity(), ones, ones, ones, None, position_bias=torch.ones(1, 2, 1, 1))
