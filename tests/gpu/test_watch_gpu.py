"""A watch on a GPU: it never waits for the device, and its times are the device's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import kvbench
from kvbench.models.signature import library_cache, returned_cache

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
    pytest.mark.filterwarnings("ignore:The CUDA Graph is empty"),  # torch.compile's own, while it warms up
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),
]

TOKENS = 12


@pytest.fixture
def model(tiny_model: Callable[..., Any]) -> Any:
    model = tiny_model("llama").cuda()
    model.generation_config.eos_token_id = None
    return model


def loop(model: Any, *, cache: Any = None, read: bool = False) -> None:
    ids = torch.arange(3, 23, device="cuda").unsqueeze(0)
    positions = torch.arange(64, device="cuda").unsqueeze(0)
    with torch.inference_mode():
        start = 0
        for _ in range(TOKENS):
            place = positions[:, start : start + ids.shape[1]]
            start += ids.shape[1]
            out = model(ids, position_ids=place, use_cache=True, logits_to_keep=1, **library_cache(cache))
            cache, ids = returned_cache(out), out.logits[:, -1:].argmax(-1)
            if read:
                ids.cpu().tolist()


def test_nothing_waits_for_the_device_while_the_watch_is_on(model: Any) -> None:
    loop(model)
    with kvbench.watch(model) as seen:
        torch.cuda.set_sync_debug_mode("error")
        try:
            loop(model)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    record = seen.record
    assert ["cache_used"] == [each.code for each in record.findings if each.code != "time_outside"]
    assert [0, *range(20, 20 + TOKENS - 1)] == [each.past for each in record.passes]
    assert all(each.model_s > 0 for each in record.passes)


def test_the_length_of_a_static_cache_is_copied_and_read_at_the_end(model: Any) -> None:
    from transformers import StaticCache

    with kvbench.watch(model) as seen:
        loop(model, cache=StaticCache(config=model.config, max_cache_len=64))
    assert [0, *range(20, 20 + TOKENS - 1)] == [each.past for each in seen.record.passes]


def test_a_loop_that_reads_each_token_is_told_that_it_waits(model: Any) -> None:
    with kvbench.watch(model) as seen:
        loop(model, read=True)
    (finding,) = (each for each in seen.record.findings if each.code == "host_reads_on_device")
    assert 1 == finding.arguments["per_step"]  # the list is made of what the host has already


def test_the_compiled_steps_of_generate_are_seen_from_outside(model: Any) -> None:
    ids = torch.arange(3, 23, device="cuda").unsqueeze(0)
    with kvbench.watch(model) as seen:
        model.generate(ids, max_new_tokens=TOKENS, do_sample=False, cache_implementation="static")
    assert "cache_used" in [each.code for each in seen.record.findings]
    assert [20, *[1] * (TOKENS - 1)] == [each.submitted for each in seen.record.passes][:TOKENS]
