"""Token confidence is what the model itself thought, by hand computation, in every mode, batch and sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.config.schema import SamplingConfig
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.generate import Generate
from kvbench.decoding.loops import CachedLoop, NoCacheLoop
from kvbench.decoding.protocol import Decoded, Unobserved
from kvbench.decoding.sampling import Sampler, generate_arguments
from kvbench.decoding.settings import SessionSettings
from kvbench.decoding.tracing import Trace, Traced, TracedDecoder, TracingChooser, WatchedDecoder

LOOPS = {"nocache": NoCacheLoop, "cached": CachedLoop}
MODES = (*LOOPS, "generate", "generate_nocache")
UNEQUAL = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15]]
NEW_TOKENS = 6
GREEDY = SamplingConfig()
SAMPLED = SamplingConfig(temperature=1.7, top_p=0.9, top_k=40, repetition_penalty=1.4, seed=3)


def traced(model: Any, mode: str, prompts: list[list[int]], sampling: SamplingConfig, **run: Any) -> Decoded:
    trace = Trace(top_k=run.pop("top_k", 4))
    setting = SessionSettings("auto", model.config._attn_implementation, sampling.seed)
    if mode in LOOPS:
        loop = LOOPS[mode](Forward(model), TracingChooser(Sampler(sampling), trace), setting, pad_id=0)
        decoder = TracedDecoder(loop, trace)
    else:
        plain = Generate(model, generate_arguments(sampling), setting, 0, use_cache=mode == "generate")
        decoder = TracedDecoder(WatchedDecoder(plain, model, trace), trace)
    decoder.prepare(None)
    return decoder.run(make_batch(0, prompts, NEW_TOKENS, torch.device("cpu")), NEW_TOKENS, Unobserved(), **run)


def by_hand(model: Any, prompt: list[int], new_ids: list[int]) -> list[tuple[float, int, float, list[int]]]:
    """Probability, rank, entropy and the four likeliest of each new token, in plain Python from one forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *new_ids]])).logits[0]
    figures = []
    for step, token in enumerate(new_ids):
        row = [float(value) for value in logits[len(prompt) - 1 + step]]
        total = sum(math.exp(value - max(row)) for value in row)
        shares = [math.exp(value - max(row)) / total for value in row]
        rank = 1 + sum(value > row[token] for value in row)
        entropy = -sum(share * math.log(share) for share in shares)
        likeliest = sorted(range(len(row)), key=lambda other: -shares[other])[:4]
        figures.append((shares[token], rank, entropy, likeliest))
    return figures


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled and penalised"])
@pytest.mark.parametrize("mode", MODES)
class TestTheFigures:
    def test_are_those_of_the_raw_logits_in_a_batch_of_unequal_prompts(
        self, tiny_model: Callable[..., Any], mode: str, sampling: SamplingConfig
    ) -> None:
        model = tiny_model("llama")
        decoded = traced(model, mode, UNEQUAL, sampling)
        seen: Traced = decoded.trace
        for row, prompt in enumerate(UNEQUAL):
            for step, (share, rank, entropy, likeliest) in enumerate(
                by_hand(model, prompt, decoded.new_ids[row].tolist())
            ):
                assert share == pytest.approx(float(seen.probability[row, step]), rel=1e-4)
                assert rank == int(seen.rank[row, step])
                assert entropy == pytest.approx(float(seen.entropy_nats[row, step]), rel=1e-4)
                assert likeliest == seen.top_ids[row, step].tolist()
        if sampling is GREEDY:
            assert {1} == set(seen.rank.flatten().tolist())
        else:
            assert max(seen.rank.flatten().tolist()) > 1

    def test_change_nothing_of_what_is_written(
        self, tiny_model: Callable[..., Any], mode: str, sampling: SamplingConfig
    ) -> None:
        model = tiny_model("llama")
        setting = SessionSettings("auto", model.config._attn_implementation, sampling.seed)
        plain = CachedLoop(Forward(model), Sampler(sampling), setting, pad_id=0)
        plain.prepare(None)
        batch = make_batch(0, UNEQUAL, NEW_TOKENS, torch.device("cpu"))
        expected = plain.run(batch, NEW_TOKENS, Unobserved()).new_ids.tolist()
        assert expected == traced(model, mode, UNEQUAL, sampling).new_ids.tolist()
        assert not model._forward_hooks


class TestARun:
    @pytest.mark.parametrize("mode", MODES)
    def test_that_stops_early_has_a_figure_for_every_token_until_then(
        self, tiny_model: Callable[..., Any], mode: str
    ) -> None:
        model = tiny_model("llama")
        free = traced(model, mode, [UNEQUAL[0]], GREEDY)
        stop = free.new_ids[0, 2].item()
        ended = traced(model, mode, [UNEQUAL[0]], GREEDY, stop_ids=(stop,))
        steps = ended.new_ids.shape[1]
        assert free.new_ids[0].tolist().index(stop) + 1 == steps
        assert free.trace.probability[0, :steps].tolist() == ended.trace.probability[0].tolist()

    def test_can_do_without_alternatives(self, tiny_model: Callable[..., Any]) -> None:
        decoded = traced(tiny_model("llama"), "cached", [[5, 6]], GREEDY, top_k=0)
        assert (1, NEW_TOKENS, 0) == tuple(decoded.trace.top_ids.shape)
        assert (1, NEW_TOKENS) == tuple(decoded.trace.probability.shape)

    def test_offers_no_more_alternatives_than_there_are_tokens(self, tiny_model: Callable[..., Any]) -> None:
        decoded = traced(tiny_model("llama"), "cached", [[5, 6]], GREEDY, top_k=500)
        assert 97 == decoded.trace.top_ids.shape[2]
        assert sum(decoded.trace.top_probability[0, 0].tolist()) == pytest.approx(1, abs=1e-5)


class TestSingleChoices:
    def test_a_token_that_is_ruled_out_leaves_the_entropy_finite(self) -> None:
        trace = Trace(top_k=2)
        trace.see(torch.tensor([[0.0, 0.0, -math.inf]]), torch.tensor([1]))
        seen = trace.read()
        assert 0.5 == seen.probability.item()
        assert math.log(2) == pytest.approx(seen.entropy_nats.item())
        assert 1 == seen.rank.item()  # equals share the better rank

    def test_half_precision_logits_are_softmaxed_in_float32(self) -> None:
        logits = torch.tensor([[8.0, 7.0, 0.0]], dtype=torch.bfloat16)
        trace = Trace(top_k=1)
        trace.see(logits, torch.tensor([1]))
        expected = math.exp(7) / (math.exp(8) + math.exp(7) + 1)
        assert expected == pytest.approx(trace.read().probability.item(), rel=1e-6)

    def test_reading_begins_anew(self) -> None:
        trace = Trace(top_k=1)
        for _ in range(2):
            trace.see(torch.zeros(1, 3), torch.tensor([0]))
            assert (1, 1) == tuple(trace.read().probability.shape)
