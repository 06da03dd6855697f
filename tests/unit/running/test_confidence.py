"""A traced run as tokens: texts that join to the whole text, ends where the sequence ended, nothing not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import kvbench
from kvbench.arm import Arm
from kvbench.config.rules import check
from kvbench.config.schema import CheckConfig, Config, MeasureConfig, ModelConfig, TraceConfig, WorkloadConfig
from kvbench.decoding.tracing import Traced
from kvbench.measuring.sensors import NullSensors
from kvbench.models.loading import adopt
from kvbench.models.tokenizers import byte_tokenizer
from kvbench.plan import Prompts, make_plan
from kvbench.records.samples import RunSamples
from kvbench.records.untimed import TracedPass
from kvbench.running.job import run_job
from kvbench.running.outputs import TokenTexts, traced_sequences
from kvbench.running.torch_backend import TorchBackend


@pytest.fixture(scope="module")
def embedded() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = f"{kvbench.__path__[0]}/models/embedded"
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


class TestTheTexts:
    @pytest.mark.parametrize("text", ["The cache keeps", "37+48=85", "缓存保存 ✓ é\n\tend", " 🙂🙂 ", ""])
    def test_joined_are_the_whole_text(self, embedded: tuple[Any, Any], text: str) -> None:
        tokenizer = embedded[1]
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        assert text == "".join(TokenTexts(tokenizer).pieces(ids))

    def test_come_with_the_token_that_completes_a_character(self) -> None:
        tokenizer = byte_tokenizer(300)
        ids = tokenizer.encode("é✓", add_special_tokens=False)
        assert ["", "é", "", "", "✓"] == TokenTexts(tokenizer).pieces(ids)

    def test_of_a_torn_character_come_last(self) -> None:
        tokenizer = byte_tokenizer(300)
        ids = tokenizer.encode("a✓", add_special_tokens=False)[:-1]
        pieces = TokenTexts(tokenizer).pieces(ids)
        assert ["a", ""] == pieces[:2]
        assert tokenizer.decode(ids) == "".join(pieces)

    def test_of_a_token_alone_keep_its_space_or_are_its_name(self, embedded: tuple[Any, Any]) -> None:
        tokenizer = embedded[1]
        texts = TokenTexts(tokenizer)
        (the,) = tokenizer.encode(" the", add_special_tokens=False)
        assert " the" == texts.own(the)
        assert "<eos>" == texts.own(tokenizer.eos_token_id)
        assert "<0xE4>" == texts.own(tokenizer.convert_tokens_to_ids("<0xE4>"))


class TestATracedSequence:
    def test_ends_with_its_tokens_and_holds_nothing_that_is_not_finite(self) -> None:
        nan = float("nan")
        floats = torch.tensor([[[0.5, 1.0, 0.5], [nan, nan, nan], [0.1, 0.1, 0.1]]])
        whole = torch.tensor([[[1, 65], [1, 66], [1, 67]]])
        ((first, second),) = traced_sequences([[65, 66]], Traced(floats, whole), TokenTexts(byte_tokenizer(300)))
        assert (0.5, 1, 1.0) == (first.probability, first.rank, first.entropy_nats)
        assert (None, None, ()) == (second.probability, second.entropy_nats, second.alternatives)


def samples_of(model: Any, tokenizer: Any, texts: tuple[str, ...], **workload: Any) -> RunSamples:
    config = Config(
        model=ModelConfig(name="m", weights="path", path="(loaded)"),
        arms=[Arm(mode="nocache"), Arm(mode="cached"), Arm(mode="generate")],
        workload=WorkloadConfig(**workload),
        measure=MeasureConfig(blocks=1, warmup=0),
        trace=TraceConfig(probabilities=True, top_k=3),
        check=CheckConfig(agreement="none"),
    )
    check(config)
    samples = RunSamples()
    plan = make_plan(config, Prompts(texts))
    backend = TorchBackend(adopt(model.eval(), tokenizer, "m"), torch.device("cpu"), NullSensors("none"))
    run_job(backend.session(plan), samples.add)
    return samples


@pytest.fixture(scope="module")
def samples(embedded: tuple[Any, Any]) -> RunSamples:
    texts = ("37+48=", "The cache keeps", "缓存保存")
    return samples_of(*embedded, texts, new_tokens=24, batch_size=2, stop="tokenizer")


class TestAMeasurement:
    def test_traces_every_arm_and_prompt_until_its_stop(self, samples: RunSamples) -> None:
        assert [0, 1, 2] == [each.arm for each in samples.traced]
        for traced, untimed in zip(samples.traced, samples.untimed, strict=True):
            ids = tuple(tuple(token.token_id for token in sequence) for sequence in traced.sequences)
            assert untimed.tokens == ids
            assert untimed.texts == tuple("".join(token.text for token in row) for row in traced.sequences)
            assert ("stop",) * 3 == untimed.finish_reasons
        assert 3 == len(samples.traced[0].sequences[0])  # 8, 5, the end

    def test_agrees_between_the_arms(self, samples: RunSamples) -> None:
        first, *others = (figures(each) for each in samples.traced)
        for other in others:
            assert first == pytest.approx(other, rel=1e-3, abs=1e-6)

    def test_times_the_trace_in_a_lane_of_its_own(self, embedded: tuple[Any, Any]) -> None:
        samples = samples_of(*embedded, ("37+48=",), new_tokens=4)
        for block in samples.blocks:
            assert ["throughput"] * 3 + ["steps"] * 3 + ["trace"] * 3 == [visit.lane for visit in block.visits]
            assert 1 == len({visit.tokens_sha256 for visit in block.visits})
            assert all(visit.step_s is None for visit in block.visits if visit.lane != "steps")

    def test_without_a_trace_has_neither(self, tiny_model: Callable[..., Any]) -> None:
        heard: list[Any] = []
        model, tokenizer = tiny_model("llama", vocab_size=300), byte_tokenizer(300)
        record = kvbench.measure(model, tokenizer, "a", new_tokens=3, blocks=5, on_event=heard.append)
        assert not [each for each in heard if isinstance(each, TracedPass)]
        assert [None, None] == [arm.trace_cost for arm in record.arms]
        assert "trace.probabilities" in record.null_reasons["/arms/0/trace_cost"]


def figures(traced: TracedPass) -> list[float]:
    return [token.probability or 0.0 for sequence in traced.sequences for token in sequence]
