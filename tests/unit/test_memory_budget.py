"""The predicted peak is what tensors really hold, and the largest size is the last one within the budget."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers import DynamicCache

from kvbench.arm import Arm
from kvbench.model_costs import Decoding, largest, peak_bytes
from kvbench.model_facts import ModelFacts, facts_from_config
from kvbench.models.signature import library_cache
from kvbench.models.sizing import weight_size

RECOMPUTE = Decoding(Arm("nocache", "none", "eager", "auto"), "sdpa", new_tokens=2, on_host=False)
CACHED = replace(RECOMPUTE, arm=Arm("cached", "dynamic", "eager", "auto"))


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors made inside it for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)}
        for tensor in tree_flatten(result)[0]:
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in given and storage._cdata not in self._sizes:
                self._sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata)
        self.peak = max(self.peak, self.now)
        return result

    def _gone(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def facts_of(model: Any) -> ModelFacts:
    size = weight_size(model)
    return facts_from_config(
        model.config, name="m", source="random", dtype="float32", parameters=size.parameters, weight_bytes=size.bytes
    )


@pytest.mark.parametrize("chunk", [32, 64, 128])
def test_the_peak_of_a_chunked_prefill_is_predicted_within_fifteen_percent(
    chunk: int, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model("llama", intermediate_size=256)
    facts, submitted = facts_of(model), 256
    ids = torch.arange(3 * submitted).view(3, submitted) % 97
    with torch.inference_mode(), Live() as live:
        cache = DynamicCache(config=model.config)
        for begin in range(0, submitted, chunk):
            model(input_ids=ids[:, begin : begin + chunk], **library_cache(cache), use_cache=True, logits_to_keep=1)
    decoding = replace(CACHED, chunk=chunk)
    predicted = peak_bytes(facts, decoding, 3, submitted + 1)
    assert predicted is not None
    assert facts.weight_bytes is not None
    assert live.peak == pytest.approx(predicted - facts.weight_bytes, rel=0.15)
    whole = peak_bytes(facts, replace(decoding, chunk=None), 3, submitted + 1)
    assert whole is not None
    assert predicted < whole


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        ("llama", {"intermediate_size": 64}),
        ("llama", {"intermediate_size": 96}),
        ("llama", {"intermediate_size": 256}),
        ("mistral", {"intermediate_size": 96, "sliding_window": 4096}),
    ],
    ids=str,
)
@pytest.mark.parametrize("decoding", [RECOMPUTE, CACHED], ids=["recompute", "cached"])
def test_the_peak_of_a_pass_is_predicted_within_three_percent(
    decoding: Decoding, architecture: str, shape: dict[str, int], tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(architecture, **shape)
    facts, keeps = facts_of(model), decoding.arm.keeps_past
    submitted = 256
    ids = torch.arange(3 * submitted).view(3, submitted) % 97
    with torch.inference_mode(), Live() as live:
        cache = DynamicCache(config=model.config) if keeps else None
        model(input_ids=ids, **library_cache(cache), use_cache=keeps, logits_to_keep=1)
    predicted = peak_bytes(facts, decoding, 3, submitted + 1 if keeps else submitted)
    assert predicted is not None
    assert facts.weight_bytes is not None
    assert pytest.approx(live.peak, rel=0.03) == predicted - facts.weight_bytes


@pytest.mark.parametrize("axis", ["context", "batch"])
def test_the_largest_size_is_the_last_within_the_budget(axis: str, tiny_model: Callable[..., Any]) -> None:
    facts = facts_of(tiny_model("llama"))
    size = largest(facts, CACHED, 50_000_000, axis, 8)
    assert size is not None

    def needed(n: int) -> int:
        rows, context = (8, n) if axis == "context" else (n, 8)
        return peak_bytes(facts, CACHED, rows, context) or 0

    assert needed(size) <= 50_000_000 < needed(size + 1)


def test_nothing_fits_beside_weights_that_fill_the_budget(tiny_model: Callable[..., Any]) -> None:
    facts = facts_of(tiny_model("llama"))
    assert 0 == largest(facts, CACHED, facts.weight_bytes or 0, "context", 1)


def test_a_graph_for_a_backward_pass_is_not_predicted(tiny_model: Callable[..., Any]) -> None:
    grown = replace(RECOMPUTE, arm=replace(RECOMPUTE.arm, habit="autograd"))
    assert largest(facts_of(tiny_model("llama")), grown, 10**9, "context", 1) is None


def test_what_lies_behind_a_window_is_in_the_predicted_peak(tiny_model: Callable[..., Any]) -> None:
    """A window shorter than the prompt was predicted by what it shows: its storage is the whole prompt's."""
    model = tiny_model("mistral", sliding_window=8, num_hidden_layers=12, num_key_value_heads=4)
    facts = facts_of(model)
    ids = torch.arange(3 * 256).view(3, 256) % 97
    with torch.inference_mode(), Live() as live:
        cache = DynamicCache(config=model.config)
        model(input_ids=ids, **library_cache(cache), use_cache=True, logits_to_keep=1)
    predicted = peak_bytes(facts, CACHED, 3, 257)
    assert predicted is not None
    assert facts.weight_bytes is not None
    assert pytest.approx(live.peak, rel=0.1) == predicted - facts.weight_bytes
