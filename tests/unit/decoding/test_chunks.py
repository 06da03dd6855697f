"""A prompt that is submitted in pieces gives the logits that it gives in one, by the passes that are promised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.config.schema import SamplingConfig
from kvbench.decoding.caches import CacheMaker
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.generate import Generate
from kvbench.decoding.logit_differences import largest_difference, largest_logit
from kvbench.decoding.loops import CachedLoop, InterruptedLoop, Loop
from kvbench.decoding.protocol import Decoder, Pass, Unobserved
from kvbench.decoding.recorder import PassRecorder
from kvbench.decoding.sampling import Forced, Sampler, generate_arguments
from kvbench.decoding.settings import SessionSettings
from kvbench.decoding.token_path import follow
from kvbench.errors import ModelUnavailable
from kvbench.passes import UNINTERRUPTED, WHOLE, Chunks, Interruptions, prove

CPU = torch.device("cpu")
PROMPTS = {
    "equal": [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]],
    "unequal": [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [12], [13, 14, 15, 16, 17, 18]],
}
PATH = [21, 22, 23, 24, 25, 26]
ARCHITECTURES = {
    "llama": {},
    "gpt2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 4},
    "gemma2": {"sliding_window": 4},
    "yuan": {},
}
ASKED = Interruptions((2, 4), (40, 41, 42, 43, 44))


def loop(
    model: Any,
    chunk: int | None,
    *,
    cache: str = "dynamic",
    chooser: Any = None,
    interruptions: Interruptions = UNINTERRUPTED,
    kind: type[CachedLoop] = CachedLoop,
) -> Loop:
    forward, setting = Forward(model), SessionSettings("auto", model.config._attn_implementation, 0)
    chooser = chooser or Sampler(SamplingConfig())
    caches, chunks = CacheMaker(forward, cache), Chunks(chunk)
    return kind(forward, chooser, setting, 0, caches=caches, chunks=chunks, interruptions=interruptions)


def generate(model: Any, chunk: int | None, forced: Forced) -> Decoder:
    arguments = generate_arguments(SamplingConfig())
    setting = SessionSettings("auto", model.config._attn_implementation, 0)
    return Generate(model, arguments, setting, 0, use_cache=True, forced=forced, chunks=Chunks(chunk))


def logits(decoder: Callable[[Forced], Decoder], prompts: list[list[int]], room: int = 0) -> list[torch.Tensor]:
    forced = Forced(torch.tensor([PATH] * len(prompts)))
    return follow(decoder(forced), forced, make_batch(0, prompts, len(PATH) + room, CPU))


def difference(model: Any, prompts: list[list[int]], chunk: int, room: int = 0, **named: Any) -> float:
    whole = logits(lambda forced: loop(model, None, chooser=forced, **named), prompts, room)
    pieces = logits(lambda forced: loop(model, chunk, chooser=forced, **named), prompts, room)
    return largest_difference(whole, pieces) / largest_logit(whole)


class TestPieces:
    def test_cover_everything_and_only_the_last_one_is_smaller(self) -> None:
        assert [(0, 4), (4, 8), (8, 10)] == list(Chunks(4).spans(0, 10))
        assert [(7, 8)] == list(Chunks(4).spans(7, 8))
        assert [(0, 10)] == list(WHOLE.spans(0, 10)) == list(Chunks(10).spans(0, 10))


@pytest.mark.parametrize("chunk", [1, 3, 10])
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
class TestAChunkedPrefill:
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_gives_the_logits_of_a_whole_one(
        self, tiny_model: Callable[..., Any], architecture: str, prompts: list[list[int]], chunk: int
    ) -> None:
        model = tiny_model(architecture, **ARCHITECTURES[architecture])
        assert difference(model, prompts, chunk) < 1e-5
        if architecture != "gemma2":  # its eager softmax in float32 makes NaN of float64's mask, chunked or not
            assert difference(model.double(), prompts, chunk) < 1e-6  # rotary tables and norms stay in float32

    @pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "yuan"])
    def test_fills_a_static_cache(
        self, tiny_model: Callable[..., Any], architecture: str, prompts: list[list[int]], chunk: int
    ) -> None:
        model = tiny_model(architecture, **ARCHITECTURES[architecture])
        assert difference(model, prompts, chunk, cache="static") < 1e-5

    @pytest.mark.parametrize("kind", [CachedLoop, InterruptedLoop])
    def test_appends_messages_and_rebuilds_lost_caches_in_pieces_too(
        self, tiny_model: Callable[..., Any], kind: type[CachedLoop], prompts: list[list[int]], chunk: int
    ) -> None:
        model = tiny_model("llama")
        room = ASKED.context(0, len(PATH)) - len(PATH)
        assert difference(model, prompts, chunk, room, interruptions=ASKED, kind=kind) < 1e-5

    @pytest.mark.parametrize("kind", [CachedLoop, InterruptedLoop])
    def test_is_seen_to_submit_what_it_promises(
        self, tiny_model: Callable[..., Any], kind: type[CachedLoop], prompts: list[list[int]], chunk: int
    ) -> None:
        model = tiny_model("llama")
        batch = make_batch(0, prompts, ASKED.context(0, len(PATH)), CPU)
        decoder = loop(model, chunk, interruptions=ASKED, kind=kind)
        with PassRecorder(model, lambda: None) as recorder:
            decoded = decoder.run(batch, len(PATH), Unobserved())
        assert recorder.passes == list(decoded.passes)
        assert (len(prompts), len(PATH)) == tuple(decoded.new_ids.shape)
        loses_past = kind is InterruptedLoop
        proof = prove(decoded.held_passes(), 11, True, ASKED, loses_past=loses_past, chunks=Chunks(chunk))
        assert (len(recorder.passes), 0) == (proof.steps_checked, proof.violations), proof.first_violation
        assert prove(recorder.passes, 11, True, ASKED, loses_past=loses_past).violations > 0

    def test_of_generate_makes_the_same_passes_and_logits(
        self, tiny_model: Callable[..., Any], prompts: list[list[int]], chunk: int
    ) -> None:
        model = tiny_model("llama")
        with PassRecorder(model, lambda: None) as recorder:
            pieces = logits(lambda forced: generate(model, chunk, forced), prompts)
        assert prove(recorder.passes, 11, True, chunks=Chunks(chunk)).violations == 0
        whole = logits(lambda forced: generate(model, None, forced), prompts)
        assert largest_difference(whole, pieces) / largest_logit(whole) < 1e-5


@pytest.mark.parametrize("architecture", ["rwkv", "recurrent_gemma"])
def test_of_a_state_that_generate_cannot_hand_on_is_refused_in_a_sentence(
    tiny_model: Callable[..., Any], architecture: str
) -> None:
    shape = {"rwkv": {"attention_hidden_size": 32}, "recurrent_gemma": {"lru_width": 32, "conv1d_width": 4}}
    model = tiny_model(architecture, **shape[architecture])
    batch = make_batch(0, PROMPTS["equal"], len(PATH), CPU)
    decoder = generate(model, 4, Forced(torch.tensor([PATH]), range(len(PATH))))
    with pytest.raises(ModelUnavailable, match=r"workload\.prefill_chunk: generate cannot hand .* in pieces"):
        decoder.run(batch, len(PATH), Unobserved())


class TestTheProof:
    MADE = (Pass(4, 0, 4), Pass(1, 4, 5), Pass(1, 5, 6), Pass(1, 6, 7))

    def test_of_pieces_counts_every_pass(self) -> None:
        proof = prove(self.MADE, 5, True, chunks=Chunks(4))
        assert (4, 0, 0) == (proof.steps_checked, proof.violations, proof.resubmitted)

    def test_finds_a_prompt_that_was_not_cut(self) -> None:
        proof = prove([Pass(5, 0, 5), Pass(1, 5, 6), Pass(1, 6, 7)], 5, True, chunks=Chunks(4))
        assert (3, "pass 0: submitted 5, past 0 -> 5") == (proof.violations, proof.first_violation)

    def test_tells_a_cache_that_is_not_used_from_one_that_is_filled_twice(self) -> None:
        proof = prove([*self.MADE[:2], Pass(6, 5, 11), Pass(7, 11, 18)], 5, True, chunks=Chunks(4))
        assert (2, 2) == (proof.violations, proof.resubmitted)
        assert (proof.first_violation or "").startswith("Your cached loop submitted all tokens at every step")
