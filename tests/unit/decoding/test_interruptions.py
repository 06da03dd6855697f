"""A cache that is lost and rebuilt, or given a message, goes on as if all tokens had been there from the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.config.schema import SamplingConfig
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.loops import CachedLoop, InterruptedLoop, Loop, NoCacheLoop
from kvbench.decoding.protocol import Decoded, Pass, Unobserved
from kvbench.decoding.recorder import PassRecorder
from kvbench.decoding.sampling import Sampler
from kvbench.decoding.settings import SessionSettings
from kvbench.passes import Interruptions, default_steps, prove

pytestmark = pytest.mark.versions

LOOPS: dict[str, type[Loop]] = {"nocache": NoCacheLoop, "resumed": CachedLoop, "interrupted": InterruptedLoop}
PROMPTS = {"one": [[5, 6, 7, 8, 9]], "unequal": [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15]]}
NEW_TOKENS = 12
LOST = Interruptions((3, 7))
ASKED = Interruptions((3, 7), (40, 41, 42))


def decode(model: Any, mode: str, prompts: list[list[int]], interruptions: Interruptions, stop: Any = ()) -> Decoded:
    setting = SessionSettings("auto", model.config._attn_implementation, 0)
    loop = LOOPS[mode](Forward(model), Sampler(SamplingConfig()), setting, 0, interruptions=interruptions)
    batch = make_batch(0, prompts, interruptions.context(0, NEW_TOKENS), torch.device("cpu"))
    loop.prepare(None)
    return loop.run(batch, NEW_TOKENS, Unobserved(), stop)


def by_hand(model: Any, prompt: list[int], interruptions: Interruptions) -> list[int]:
    """The likeliest continuation of a growing list of ids, with no mask, no cache and no batch."""
    ids, new = list(prompt), []
    for index in range(NEW_TOKENS):
        if index in interruptions.steps:
            ids += interruptions.message_ids
        with torch.inference_mode():
            new.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        ids.append(new[-1])
    return new


@pytest.mark.parametrize("interruptions", [LOST, ASKED], ids=["cache lost", "message inserted"])
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("architecture", ["llama", "gemma", "mistral"])
class TestEveryMode:
    def test_writes_what_a_list_of_all_ids_gives(
        self, tiny_model: Callable[..., Any], architecture: str, prompts: list[list[int]], interruptions: Interruptions
    ) -> None:
        model = tiny_model(architecture, **({"sliding_window": 8} if architecture == "mistral" else {}))
        expected = [by_hand(model, prompt, interruptions) for prompt in prompts]
        for mode in LOOPS:
            assert expected == decode(model, mode, prompts, interruptions).new_ids.tolist(), mode

    def test_submits_what_it_promises(
        self, tiny_model: Callable[..., Any], architecture: str, prompts: list[list[int]], interruptions: Interruptions
    ) -> None:
        model, longest = tiny_model(architecture), max(map(len, prompts))
        for mode in LOOPS:
            with PassRecorder(model, lambda: None) as recorder:
                decoded = decode(model, mode, prompts, interruptions)
            proof = prove(recorder.passes, longest, mode != "nocache", interruptions, loses_past=mode == "interrupted")
            assert (NEW_TOKENS, 0) == (proof.steps_checked, proof.violations), (mode, proof.first_violation)
            assert recorder.passes == list(decoded.passes)


class TestTheProof:
    def test_of_an_interrupted_arm_wants_the_whole_context_on_an_empty_past(self) -> None:
        rebuilt = [Pass(5, 0, 5), Pass(6, 0, 6), Pass(1, 6, 7)]
        kept = [Pass(5, 0, 5), Pass(1, 5, 6), Pass(1, 6, 7)]
        once = Interruptions((1,))
        assert prove(rebuilt, 5, True, once, loses_past=True).violations == 0
        assert prove(kept, 5, True, once, loses_past=True).violations == 1
        assert prove(rebuilt, 5, True, once).violations == 1

    def test_of_a_resumed_arm_wants_the_message_and_nothing_else(self) -> None:
        asked = Interruptions((1,), (40, 41))
        assert prove([Pass(5, 0, 5), Pass(3, 5, 8), Pass(1, 8, 9)], 5, True, asked).violations == 0
        assert prove([Pass(5, 0, 5), Pass(8, 0, 8), Pass(1, 8, 9)], 5, True, asked).violations == 1


class TestContext:
    def test_counts_the_message_from_the_pass_that_follows_it(self) -> None:
        assert [ASKED.context(10, index) for index in (0, 2, 3, 4, 7, 12)] == [10, 12, 16, 17, 23, 28]

    def test_is_prompt_and_new_tokens_when_the_cache_is_merely_lost(self) -> None:
        assert [LOST.context(10, index) for index in (0, 3, 8)] == [10, 13, 18]

    def test_default_steps_are_inside_every_run(self) -> None:
        for new_tokens in range(2, 40):
            assert all(1 <= step < new_tokens for step in default_steps(new_tokens))


def test_stopping_early_leaves_later_interruptions_out(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    free = by_hand(model, PROMPTS["one"][0], ASKED)
    stop = free[4]
    for mode in LOOPS:
        decoded = decode(model, mode, PROMPTS["one"], ASKED, (stop,))
        assert [free[: free.index(stop) + 1]] == decoded.new_ids.tolist()
