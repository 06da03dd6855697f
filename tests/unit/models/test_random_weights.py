"""Random weights are the architecture's own initialisation, drawn faster."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from kvbench.models import loading
from kvbench.models.loading import random_model

ARCHITECTURES = ("gemma", "llama", "qwen3", "gpt2", "mistral", "gemma2", "gemma3_text")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def pool_for_small_tensors(monkeypatch):
    monkeypatch.setattr(loading, "SMALLEST_COPIED", 100)
    monkeypatch.setattr(loading, "POOL_NUMBERS", 9973)  # tensors below are up to 10240 numbers: it wraps


def build(config, seed=0, dtype=torch.float32):
    return random_model(config, dtype, CPU, seed)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
class TestEveryArchitectureIsInitialisedByItsOwnRules:
    def test_buffers_equal_those_of_from_config(self, tiny_config, model_type):
        ours = dict(build(tiny_config(model_type)).named_buffers())
        theirs = dict(AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32).named_buffers())
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)

    def test_vectors_equal_those_of_from_config(self, tiny_config, model_type):
        """Norms are ones, or zeros where the norm is zero-centred as Gemma's; biases are zeros."""
        ours = dict(build(tiny_config(model_type)).named_parameters())
        theirs = AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32).named_parameters()
        for name, expected in theirs:
            if expected.ndim == 1:
                assert torch.equal(expected, ours[name])

    def test_matrices_spread_as_those_of_from_config(self, tiny_config, model_type):
        ours = dict(build(tiny_config(model_type)).named_parameters())
        theirs = AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32).named_parameters()
        for name, expected in theirs:
            if expected.ndim > 1:
                assert expected.std().item() == pytest.approx(ours[name].std().item(), rel=0.15), name
                assert ours[name].isfinite().all()

    def test_tied_weights_are_one_tensor(self, tiny_config, model_type):
        model = build(tiny_config(model_type, tie_word_embeddings=True))
        assert model.get_input_embeddings().weight is model.get_output_embeddings().weight

    def test_it_decodes_finite_logits(self, tiny_config, model_type):
        with torch.inference_mode():
            logits = build(tiny_config(model_type), dtype=torch.bfloat16)(torch.arange(12)[None]).logits
        assert logits.isfinite().all()


class TestTheSeedDecides:
    def test_the_same_seed_gives_the_same_weights(self, tiny_config):
        first, second = (build(tiny_config("llama"), seed=7).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_another_seed_gives_other_weights(self, tiny_config):
        first, second = (build(tiny_config("llama"), seed=seed).lm_head.weight for seed in (1, 2))
        assert not torch.equal(first, second)

    def test_the_global_random_state_is_left_as_it_was(self, tiny_config):
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        build(tiny_config("llama"))
        assert torch.equal(expected, torch.rand(4))


class TestCopiesOfOnePoolAreNotCopiesOfEachOther:
    def test_no_two_layers_share_a_matrix(self, tiny_config):
        model = build(tiny_config("llama"))
        gates = [layer.mlp.gate_proj.weight for layer in model.model.layers]
        assert not torch.equal(gates[0], gates[1])

    def test_no_two_tokens_share_an_embedding(self, tiny_config):
        table = build(tiny_config("llama", vocab_size=2048)).get_input_embeddings().weight
        assert len(table) == len(table.unique(dim=0))


def test_small_tensors_are_drawn_one_by_one(tiny_config, monkeypatch):
    monkeypatch.setattr(loading, "SMALLEST_COPIED", 1 << 18)
    monkeypatch.setattr(loading, "POOL_NUMBERS", 0)  # a pool would raise
    assert build(tiny_config("llama")).lm_head.weight.std().item() == pytest.approx(0.02, rel=0.1)
