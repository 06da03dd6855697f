"""Every pinned attention runs on a GPU, and agrees with recompute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import kvbench
from kvbench.errors import ConfigError
from kvbench.models.tokenizers import byte_tokenizer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a CUDA device")]


@pytest.fixture
def loaded(tiny_model: Callable[..., Any]) -> tuple[Any, Any]:
    wide = {"hidden_size": 256, "head_dim": 64, "num_key_value_heads": 4, "vocab_size": 300}
    return tiny_model("llama", **wide).to("cuda", torch.bfloat16), byte_tokenizer(300)


@pytest.mark.parametrize("attention", ["auto", "sdpa", "eager", "flash", "math", "efficient", "cudnn"])
def test_both_modes_agree(loaded: tuple[Any, Any], attention: str) -> None:
    record = kvbench.measure(*loaded, prompt_tokens=40, new_tokens=8, blocks=5, attention=attention)
    assert "ok" == record.status, record.status_reason
    assert record.arms[1].memory.kv_cache_bytes == record.arms[1].memory.kv_cache_predicted_bytes
    assert (record.arms[1].memory.peak_allocated_bytes or 0) > (record.arms[1].memory.weights_bytes or 0)


def test_flash_refuses_prompts_of_unequal_length(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigError, match="attention=flash: takes no mask on cuda"):
        kvbench.measure(*loaded, ["one", "another"], batch_size=2, new_tokens=4, attention="flash")


def test_device_time_lies_within_host_time(loaded: tuple[Any, Any]) -> None:
    from kvbench.records.timings import Block

    blocks: list[Block] = []
    kvbench.measure(
        *loaded,
        prompt_tokens=16,
        new_tokens=16,
        blocks=5,
        on_event=lambda event: blocks.append(event) if isinstance(event, Block) else None,
    )
    for visit in (visit for block in blocks for visit in block.visits):
        assert visit.decode_device_s is not None
        assert 0 < visit.decode_device_s <= visit.decode_s * 1.02
        assert visit.decode_enqueue_s <= visit.decode_s
