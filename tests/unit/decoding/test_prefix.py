"""What prompts begin with is computed once and copied, and each sequence goes on as if it had computed it itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.loops import CachedLoop, PrefixLoop
from kvbench.decoding.protocol import Decoded, Pass, Unobserved
from kvbench.decoding.recorder import PassRecorder
from kvbench.decoding.sampling import Forced
from kvbench.decoding.settings import SessionSettings
from kvbench.passes import common_beginning, prove
from kvbench.running.preconditions import _copies_rows

pytestmark = pytest.mark.versions

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [5, 6, 7, 8, 12, 13, 14], [5, 6, 7, 8, 9, 10, 15]]
SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("gpt2", {}),
    ("mistral", {"sliding_window": 3}),
    ("gemma2", {"sliding_window": 4}),
]
PATH = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13, 14]])


def follow(loop: type[CachedLoop], model: Any) -> tuple[list[torch.Tensor], Decoded, PassRecorder]:
    forced = Forced(PATH)
    decoder = loop(Forward(model), forced, SessionSettings("auto", model.config._attn_implementation, 0), 0)
    decoder.prepare(None)
    batch = make_batch(0, PROMPTS, 4, torch.device("cpu"))
    with PassRecorder(model, lambda: None) as recorder:
        return forced.logits, decoder.run(batch, 4, Unobserved()), recorder


def test_what_prompts_begin_with() -> None:
    assert 4 == common_beginning(PROMPTS)
    assert 2 == common_beginning([[1, 2, 3], [1, 2, 3]])  # every prompt needs a token of its own to go on with
    assert [0, 0, 0] == [common_beginning(each) for each in ([[1, 2]], [[1, 2], [1, 2, 3]], [[1, 2], [2, 2]])]


@pytest.mark.parametrize(("architecture", "changes"), SHAPES)
def test_gives_the_logits_of_the_batch_without_sharing(
    tiny_model: Callable[..., Any], architecture: str, changes: dict[str, Any]
) -> None:
    model = tiny_model(architecture, **changes)
    expected, _, _ = follow(CachedLoop, model)
    found, decoded, recorder = follow(PrefixLoop, model)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert [1, 3, 3, 3, 3] == recorder.rows
    assert [Pass(4, 0, 4), Pass(3, 4, 7), Pass(1, 7, 8)] == recorder.passes[:3] == list(decoded.passes[:3])
    assert 0 == prove(recorder.passes, 7, keeps_past=True, shared=4).violations
    assert 2 == prove(recorder.passes, 7, keeps_past=True, shared=3).violations


@pytest.mark.parametrize(("architecture", "can"), [("yuan", False), ("gemma2", True), ("llama", True)])
def test_states_besides_keys_and_values_are_not_copied(
    tiny_model: Callable[..., Any], architecture: str, can: bool
) -> None:
    assert can == _copies_rows(tiny_model(architecture))


def test_a_copy_that_mixes_up_what_it_copies_is_seen(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    expected, _, _ = follow(CachedLoop, model)
    copy = DynamicCache.batch_repeat_interleave

    def copies_and_shifts(cache: Any, rows: int) -> None:
        copy(cache, rows)
        for layer in cache.layers:
            layer.keys = layer.keys.roll(1, dims=-2)

    monkeypatch.setattr(DynamicCache, "batch_repeat_interleave", copies_and_shifts)
    found, _, _ = follow(PrefixLoop, model)
    assert max(float((ours - theirs).abs().max()) for ours, theirs in zip(found, expected, strict=True)) > 0.01
