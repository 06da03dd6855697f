"""Every habit does what it is named for, and none changes the tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.capabilities import HABITS, habits_of
from kvbench.config.schema import SamplingConfig
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.loops import CachedLoop, Habits, NoCacheLoop
from kvbench.decoding.protocol import Unobserved
from kvbench.decoding.sampling import Sampler
from kvbench.decoding.settings import SessionSettings
from kvbench.models.signature import returned_cache

pytestmark = pytest.mark.versions

PROMPT = [5, 6, 7, 8, 9]
NEW_TOKENS = 6


class Seen:
    """What one decode did: its tokens, the model's inputs and outputs, the texts that were decoded."""

    def __init__(self, model: Any, habit: str, mode: str = "nocache", interval: int = 2) -> None:
        self.inputs: list[torch.Tensor] = []
        self.outputs: list[Any] = []
        self.texts: list[list[int]] = []
        habits = Habits(habits_of(mode, habit), lambda ids: str(self.texts.append(ids)), interval)
        setting = SessionSettings("auto", model.config._attn_implementation, 0)
        kind = CachedLoop if mode == "cached" else NoCacheLoop
        loop = kind(Forward(model), Sampler(SamplingConfig()), setting, 0, habits=habits)
        hook = model.register_forward_hook(self._keep, with_kwargs=True)
        loop.prepare(None)
        batch = make_batch(0, [PROMPT], NEW_TOKENS, torch.device("cpu"))
        self.tokens = loop.run(batch, NEW_TOKENS, Unobserved()).new_ids.tolist()[0]
        hook.remove()

    def _keep(self, model: Any, args: Any, kwargs: Any, output: Any) -> None:
        self.inputs.append(kwargs["input_ids"])
        self.outputs.append(output)


@pytest.mark.parametrize("habit", [*HABITS, "all"])
def test_the_tokens_stay_the_same(tiny_model: Callable[..., Any], habit: str) -> None:
    model = tiny_model("llama")
    assert Seen(model, "none").tokens == Seen(model, habit).tokens


@pytest.mark.parametrize("habit", [name for name, habit in HABITS.items() if "cached" in habit.modes])
def test_in_cached_mode_too(tiny_model: Callable[..., Any], habit: str) -> None:
    model = tiny_model("llama")
    assert Seen(model, "none").tokens == Seen(model, habit, "cached").tokens


def test_none_is_had_unless_asked_for(tiny_model: Callable[..., Any]) -> None:
    seen = Seen(tiny_model("llama"), "none")
    assert not any(output.logits.requires_grad or returned_cache(output) for output in seen.outputs)
    assert {1} == {output.logits.shape[1] for output in seen.outputs}
    assert len({ids.untyped_storage().data_ptr() for ids in seen.inputs}) == 1
    assert [] == seen.texts


def test_autograd_builds_a_graph_at_every_step(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama").requires_grad_(False)
    seen = Seen(model, "autograd")
    assert [True] * NEW_TOKENS == [output.logits.grad_fn is not None for output in seen.outputs]
    assert not any(output.logits.requires_grad for output in Seen(model, "none").outputs)


def test_all_logits_are_of_every_position(tiny_model: Callable[..., Any]) -> None:
    seen = Seen(tiny_model("llama"), "all_logits")
    assert [output.logits.shape[1] for output in seen.outputs] == [5, 6, 7, 8, 9, 10]


def test_a_dropped_cache_holds_the_whole_context_every_time(tiny_model: Callable[..., Any]) -> None:
    seen = Seen(tiny_model("llama"), "dropped_cache")
    assert [returned_cache(output).get_seq_length() for output in seen.outputs] == [5, 6, 7, 8, 9, 10]


def test_a_python_list_makes_a_new_tensor_at_every_step(tiny_model: Callable[..., Any]) -> None:
    seen = Seen(tiny_model("llama"), "python_list")
    assert len({ids.untyped_storage().data_ptr() for ids in seen.inputs}) == NEW_TOKENS


def test_host_read_reads_every_token(tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    plain = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: read.append(plain(tensor)) or plain(tensor))
    seen = Seen(tiny_model("llama"), "host_read")
    assert [[token] for token in seen.tokens] == read[:-1]  # the last one is this test's own


def test_the_whole_text_is_decoded_at_every_tick(tiny_model: Callable[..., Any]) -> None:
    seen = Seen(tiny_model("llama"), "whole_text", interval=2)
    assert [[*PROMPT, *seen.tokens[:count]] for count in (2, 4, 6)] == seen.texts
