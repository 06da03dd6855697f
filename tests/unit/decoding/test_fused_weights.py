"""The fused engine reads a model's weights by their names, and refuses a model with anything else in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.decoding.engines.fused.weights import (
    GELU_GATE,
    PLAIN_NORM,
    SILU_GATE,
    UNIT_OFFSET_NORM,
    read_weights,
)
from kvbench.errors import ModelUnavailable

KNOWN = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}


@pytest.mark.parametrize(
    ("architecture", "changes", "norm", "gate", "head_norms"),
    [
        ("llama", {}, PLAIN_NORM, SILU_GATE, False),
        ("mistral", {"sliding_window": None}, PLAIN_NORM, SILU_GATE, False),
        ("gemma", {"hidden_act": "gelu_pytorch_tanh"}, UNIT_OFFSET_NORM, GELU_GATE, False),
        ("qwen3", {}, PLAIN_NORM, SILU_GATE, True),
    ],
)
def test_the_known_families_are_read(
    tiny_model: Callable[..., Any], architecture: str, changes: dict[str, Any], norm: int, gate: int, head_norms: bool
) -> None:
    model = tiny_model(architecture, **{**KNOWN, **changes})
    weights = read_weights(model)
    assert (norm, gate) == (weights.norm, weights.gate)
    assert (2, 1, 16) == (weights.heads, weights.kv_heads, weights.head_dim)
    assert head_norms == (weights.layers[0].q_norm is not None)
    assert model.model.layers[2].mlp.down_proj.weight is weights.layers[2].down
    assert model.model.layers[1].self_attn.k_proj.weight is weights.layers[1].k


@pytest.mark.parametrize(
    ("architecture", "changes", "why"),
    [
        ("gpt2", {}, "model_type gpt2 is none of gemma, llama, mistral, qwen3, yuan"),
        ("gemma2", {}, "model_type gemma2 is none of"),
        ("llama", {"head_dim": 8}, "heads of 8 are not a power of two of at least 16"),
        ("llama", {"attention_bias": True, **KNOWN}, "is no plain matrix (it is quantised, or has a bias)"),
        ("llama", {"hidden_act": "relu", **KNOWN}, "no kernel has the activation relu"),
    ],
)
def test_another_model_is_refused_in_one_line(
    tiny_model: Callable[..., Any], architecture: str, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ModelUnavailable, match=r"^engine=fused: .*; use engine=compiled$") as caught:
        read_weights(tiny_model(architecture, **changes))
    assert why in str(caught.value)


def test_a_part_that_the_kernels_do_not_know_is_named(tiny_model: Callable[..., Any]) -> None:
    from torch import nn

    model = tiny_model("llama", **KNOWN)
    model.model.layers[1].mlp.extra = nn.Linear(2, 2)
    with pytest.raises(ModelUnavailable, match=r"a layer has mlp\.extra"):
        read_weights(model)


@pytest.fixture
def yuan(tiny_model: Callable[..., Any]) -> Callable[..., Any]:
    """A tiny Yuan with heads that the kernels take, its convolutions as loading lays them out."""
    import torch

    def build(**changes: Any) -> Any:
        return tiny_model("yuan", num_attention_heads=2, **changes).to(memory_format=torch.channels_last)

    return build


def test_yuan_is_read_with_its_filter(yuan: Callable[..., Any]) -> None:
    import torch

    model = yuan(rms_norm_eps=0.5)
    weights = read_weights(model)
    assert (PLAIN_NORM, SILU_GATE, True) == (weights.norm, weights.gate, weights.filtered)
    assert (2, 2, 16, 0.5) == (weights.heads, weights.kv_heads, weights.head_dim, weights.eps)
    layer, read = model.model.layers[1], weights.layers[1]
    module = layer.self_attn.lf_gate
    assert read.filter is not None
    for matrix, conv in ((read.filter.first, module.conv1), (read.filter.second, module.conv2)):
        assert conv.weight.data_ptr() == matrix.data_ptr(), "a copy would double the filter's memory"
        assert matrix.is_contiguous()
        assert torch.equal(torch.cat([conv.weight[:, :, 0, 0], conv.weight[:, :, 1, 0]], dim=1), matrix)
    assert module.conv1.bias is read.filter.first_bias
    assert module.conv2.bias is read.filter.second_bias
    assert module.output_layernorm.weight is read.filter.norm
    assert 1e-6 == read.filter.eps, "the filter's norm has its own, whatever rms_norm_eps says"
    assert layer.mlp.up_proj.weight is read.gate, "Yuan's activation is on the up projection"
    assert layer.mlp.gate_proj.weight is read.up


def test_no_other_family_has_a_filter(tiny_model: Callable[..., Any]) -> None:
    weights = read_weights(tiny_model("llama", **KNOWN))
    assert weights.layers[0].filter is None
    assert (False, None) == (weights.filtered, weights.document_end)


def test_yuans_documents_end_where_its_config_says(yuan: Callable[..., Any]) -> None:
    assert read_weights(yuan(eod_token=5)).document_end == 5
    assert read_weights(yuan(eod_token=5, reset_attention_mask=False)).document_end is None


def test_yuans_angles_are_laid_out_as_the_other_families_lay_out_theirs(
    yuan: Callable[..., Any], tiny_model: Callable[..., Any]
) -> None:
    import torch

    like, positions = torch.zeros((1, 1, 1)), torch.arange(100)[None]
    of_yuan = read_weights(yuan()).rotate(like, position_ids=positions)
    of_llama = read_weights(tiny_model("llama", **KNOWN)).rotate(like, position_ids=positions)
    for mine, known in zip(of_yuan, of_llama, strict=True):
        assert (1, 100, 16) == tuple(mine.shape)
        torch.testing.assert_close(mine, known)


def without_bias(model: Any) -> None:
    model.model.layers[2].self_attn.lf_gate.conv1.bias = None


def another_convolution(model: Any) -> None:
    from torch import nn

    model.model.layers[2].self_attn.lf_gate.conv2 = nn.Conv2d(16, 32, (2, 1))


def as_torch_lays_it_out(model: Any) -> None:
    conv = model.model.layers[2].self_attn.lf_gate.conv1
    conv.weight.data = conv.weight.data.contiguous()


def with_norms_of_heads(model: Any) -> None:
    from torch import nn

    model.model.layers[2].self_attn.q_norm = nn.RMSNorm(16)


def without_a_norm(model: Any) -> None:
    from torch import nn

    model.model.layers[2].self_attn.lf_gate.output_layernorm = nn.Identity()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without_bias, "conv1 is no convolution over pairs with a bias"),
        (another_convolution, "conv2 is no convolution over pairs with a bias"),
        (as_torch_lays_it_out, "conv1 does not lie channels last in memory"),
        (with_norms_of_heads, "a layer has self_attn.q_norm"),
        (without_a_norm, "a layer has no self_attn.lf_gate.output_layernorm"),
    ],
)
def test_a_yuan_with_another_filter_is_refused_in_one_line(
    yuan: Callable[..., Any], change: Callable[[Any], None], why: str
) -> None:
    model = yuan()
    change(model)
    with pytest.raises(ModelUnavailable, match=r"^engine=fused: .*; use engine=compiled$") as caught:
        read_weights(model)
    assert why in str(caught.value)


@pytest.mark.parametrize("stored", [False, True])
def test_a_yuan_is_read_as_loading_leaves_it(yuan: Callable[..., Any], tmp_path: Path, stored: bool) -> None:
    import torch

    from kvbench.config.schema import ModelConfig
    from kvbench.models.loading import load
    from kvbench.models.tokenizers import byte_tokenizer

    model = yuan(vocab_size=300)
    if stored:
        model.save_pretrained(tmp_path)
        byte_tokenizer(300).save_pretrained(tmp_path)
    else:
        model.config.save_pretrained(tmp_path)
    spec = ModelConfig(name="tiny", path=str(tmp_path), weights="path" if stored else "random")
    assert read_weights(load(spec, torch.device("cpu")).model).layers[0].filter is not None
