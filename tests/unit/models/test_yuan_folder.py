"""The published folder loads as it is: original names, a stale auto_map, no remote code, no conversion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from yuan_models import EOD, published_folder, small_yuan

from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable
from kvbench.models.loading import load

IDS = torch.tensor([[3, 12, EOD, 40, 9, 33]])


def logits(model: object) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS, use_cache=False).logits  # type: ignore[operator]


@pytest.mark.parametrize("shards", [1, 3])
def test_anyone_may_load_it(tmp_path: Path, shards: int) -> None:
    model = small_yuan(torch.bfloat16)
    folder = published_folder(tmp_path / "yuan", model, shards=shards)
    loaded, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert (set(), set(), set()) == tuple(
        set(report[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
    )
    assert (torch.bfloat16, "YuanForCausalLM") == (loaded.dtype, type(loaded).__name__)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    torch.testing.assert_close(logits(model), logits(loaded.eval()), rtol=0, atol=0)


def test_saving_keeps_the_names(tmp_path: Path) -> None:
    model = small_yuan(torch.float32)
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert set(model.state_dict()) == set(again.state_dict())
    torch.testing.assert_close(logits(model), logits(again.eval()), rtol=0, atol=0)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = published_folder(
        tmp_path / "yuan", small_yuan(torch.bfloat16), leave_out="layers.1.self_attn.lf_gate.conv2.bias"
    )
    with pytest.raises(ModelUnavailable, match=r"model\.layers\.1\.self_attn\.lf_gate\.conv2\.bias"):
        load(ModelConfig(name="yuan", weights="path", path=str(folder)), torch.device("cpu"))


def test_the_published_configuration_is_the_2b_model() -> None:
    published = Path(__file__).with_name("yuan2_2b_config.json")
    config = AutoConfig.for_model(
        "yuan", **{k: v for k, v in json.loads(published.read_text()).items() if k != "model_type"}
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    embeddings, hidden, inner = 135040 * 2048, 2048, 8192
    filter_size = (2 * 2048 * 1024 + 1024) + (2 * 1024 * 2048 + 2048) + 2048
    layer = 4 * hidden * hidden + filter_size + 3 * hidden * inner + 2 * hidden
    assert embeddings + 24 * layer + hidden == sum(parameter.numel() for parameter in model.parameters())
    assert (torch.bfloat16, 77185, 77187, 8192) == (
        config.dtype,
        config.eod_token,
        config.sep_token,
        config.max_position_embeddings,
    )
    assert {77185} == {config.pad_token_id, config.bos_token_id, config.eos_token_id}
    assert (config.head_dim, config.separates_documents, config.tie_word_embeddings) == (64, True, True)
