"""The native Yuan computes what the paper and the checkpoint say, and any plausible mistake would be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import yuan_reference
from transformers import AutoModelForCausalLM
from yuan_models import EOD, SHAPE, small_yuan

from kvbench.models.signature import returned_cache
from kvbench.models.yuan_config import YuanConfig

pytestmark = pytest.mark.versions

PROMPT = [3, 12, 40, EOD, 9, 33, 21, 50, EOD, EOD, 14, 2, 60, 5]


def difference(expected: np.ndarray, model: Any, ids: list[int] = PROMPT) -> float:
    """Largest difference over largest logit."""
    got = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def reference(model: Any, ids: list[int] = PROMPT, mistake: str | None = None) -> np.ndarray:
    tensors = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    return yuan_reference.logits(ids, tensors, model.config.to_dict(), mistake)


class TestTheReference:
    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"num_attention_heads": 4},
            {"num_attention_heads": 1, "num_hidden_layers": 1},
            {"rms_norm_eps": 1e-2},
            {"reset_attention_mask": False, "reset_position_ids": False},
        ],
        ids=str,
    )
    def test_in_true_float64_gives_the_same_logits(self, changes: dict[str, Any], attention: str) -> None:
        model = small_yuan(**changes)
        model.set_attn_implementation(attention)
        assert difference(reference(model), model) < 1e-12

    @pytest.mark.parametrize("mistake", yuan_reference.MISTAKES)
    def test_with_a_mistake_gives_others(self, mistake: str) -> None:
        model = small_yuan()
        assert difference(reference(model, mistake=mistake), model) > 1e-2

    def test_of_a_single_token_agrees_too(self) -> None:
        model = small_yuan()
        for ids in ([5], [EOD], [EOD, 5], [5, EOD]):
            assert difference(reference(model, ids), model, ids) < 1e-12

    @pytest.mark.parametrize(("dtype", "gate"), [(torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
    def test_is_met_in_narrower_types_within_their_rounding(self, dtype: torch.dtype, gate: float) -> None:
        model = small_yuan(dtype)
        expected = reference(model)
        got = model(torch.tensor([PROMPT]), use_cache=False).logits[0]
        assert got.dtype == dtype
        assert np.abs(got.float().numpy() - expected).max() / np.abs(expected).max() < gate


class TestDocuments:
    def test_are_separated_by_both_flags_and_by_neither_alone(self) -> None:
        both = small_yuan()
        plain = small_yuan(reset_attention_mask=False, reset_position_ids=False)
        for flags in ({"reset_attention_mask": False}, {"reset_position_ids": False}):
            assert difference(reference(plain), small_yuan(**flags)) < 1e-12
        assert difference(reference(plain), both) > 1e-2

    def test_without_an_end_are_plain_causal_attention(self) -> None:
        ids = [token for token in PROMPT if token != EOD]
        plain = small_yuan(reset_attention_mask=False, reset_position_ids=False)
        assert difference(reference(plain, ids), small_yuan(), ids) < 1e-12

    def test_hide_nothing_from_the_filter(self) -> None:
        model = small_yuan(num_hidden_layers=1)
        last = [model(torch.tensor([[first, EOD, 14, 22]]), use_cache=False).logits[0, -1] for first in (9, 10)]
        # the first token is hidden from the last, but the convolutions of the third, which it sees, reach it
        assert not torch.equal(*last)

    def test_cannot_be_told_from_embeddings(self) -> None:
        with pytest.raises(ValueError, match="inputs_embeds do not tell where <eod> is"):
            small_yuan()(inputs_embeds=torch.zeros(1, 2, 24, dtype=torch.float64))


class TestTheModel:
    def test_gives_what_transformers_models_give(self) -> None:
        model = small_yuan()
        model.set_attn_implementation("eager")
        ids = torch.tensor([PROMPT])
        output = model(ids, labels=ids, output_hidden_states=True, output_attentions=True, use_cache=True)
        assert len(output.hidden_states) == 4
        assert {(1, 3, 14, 14)} == {tuple(each.shape) for each in output.attentions}
        expected = torch.nn.functional.cross_entropy(output.logits[0, :-1].float(), ids[0, 1:])
        assert float(output.loss) == pytest.approx(float(expected), rel=1e-5)
        assert returned_cache(output).get_seq_length() == 14

    def test_computes_the_last_logits_alone_when_asked(self) -> None:
        model, ids = small_yuan(), torch.tensor([PROMPT])
        torch.testing.assert_close(model(ids).logits[:, -2:], model(ids, logits_to_keep=2).logits)

    def test_refuses_shapes_that_cannot_be_built(self) -> None:
        with pytest.raises(Exception, match="heads of even width"):
            YuanConfig(**{**SHAPE, "num_attention_heads": 5})
        with pytest.raises(Exception, match="only causal models"):
            YuanConfig(**{**SHAPE, "causal_mask": False})

    def test_has_gradients(self) -> None:
        model = small_yuan(torch.float32).requires_grad_(True).train()
        ids = torch.tensor([PROMPT])
        model(ids, labels=ids).loss.backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())

    def test_is_what_the_auto_class_builds(self) -> None:
        model = AutoModelForCausalLM.from_config(YuanConfig(**SHAPE))
        assert type(model).__name__ == "YuanForCausalLM"
        assert model.lm_head.weight is model.model.embed_tokens.weight
