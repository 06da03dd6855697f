"""The hand-written loops write what transformers' own generate writes, and submit what they promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.capabilities import habits_of
from kvbench.config.schema import SamplingConfig
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.generate import Generate
from kvbench.decoding.loops import CachedLoop, Habits, NoCacheLoop
from kvbench.decoding.protocol import Decoder, Unobserved
from kvbench.decoding.recorder import PassRecorder
from kvbench.decoding.sampling import Sampler, generate_arguments
from kvbench.decoding.settings import SessionSettings
from kvbench.passes import prove

pytestmark = pytest.mark.versions

EQUAL = [[5, 6, 7, 8, 9]]
UNEQUAL = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15]]
ARCHITECTURES = [
    ("gemma", {}),
    ("llama", {}),
    ("gpt2", {}),
    ("qwen3", {}),
    ("mistral", {"sliding_window": 8}),
    ("gemma2", {"sliding_window": 8}),
]
SAMPLINGS = {
    "greedy": SamplingConfig(),
    "penalised": SamplingConfig(repetition_penalty=1.3),
    "sampled": SamplingConfig(temperature=0.8, top_p=0.9, top_k=20, repetition_penalty=1.1, seed=3),
}
NEW_TOKENS = 14


def decoders(model: Any, sampling: SamplingConfig) -> dict[str, Decoder]:
    forward = Forward(model)
    setting = SessionSettings("auto", model.config._attn_implementation, sampling.seed)
    loops = {"nocache": NoCacheLoop, "nocache_naive": NoCacheLoop, "cached": CachedLoop}
    arguments = generate_arguments(sampling)
    return {
        **{
            name: loop(forward, Sampler(sampling), setting, 0, habits=Habits(habits_of(name, "none")))
            for name, loop in loops.items()
        },
        "generate": Generate(model, arguments, setting, 0, use_cache=True),
        "generate_nocache": Generate(model, arguments, setting, 0, use_cache=False),
    }


def write(decoder: Decoder, prompts: list[list[int]], stop_ids: tuple[int, ...] = ()) -> list[list[int]]:
    batch = make_batch(0, prompts, NEW_TOKENS, torch.device("cpu"))
    decoder.prepare(None)
    ids: list[list[int]] = decoder.run(batch, NEW_TOKENS, Unobserved(), stop_ids).new_ids.tolist()
    return ids


# Every architecture decodes a padded batch greedily; one prompt alone and the ways to choose are shown on one each.
SHOWN_ONCE = {("llama", "one"): ("greedy", "penalised", "sampled"), ("gemma2", "unequal batch"): ("sampled",)}
CASES = [
    pytest.param(
        architecture,
        changes,
        prompts,
        SAMPLINGS[sampling],
        id=f"{architecture}-{kind}-{sampling}",
        marks=[] if (kind, sampling) == ("unequal batch", "greedy") or sampling in shown else [pytest.mark.slow],
    )
    for architecture, changes in ARCHITECTURES
    for kind, prompts in {"one": EQUAL, "unequal batch": UNEQUAL}.items()
    for shown in [SHOWN_ONCE.get((architecture, kind), ())]
    for sampling in SAMPLINGS
]


@pytest.mark.parametrize(("architecture", "changes", "prompts", "sampling"), CASES)
class TestEveryModeWritesTheSame:
    def test_as_a_plain_call_of_generate(
        self,
        tiny_model: Callable[..., Any],
        architecture: str,
        changes: dict[str, Any],
        prompts: list[list[int]],
        sampling: SamplingConfig,
    ) -> None:
        model = tiny_model(architecture, **changes)
        batch = make_batch(0, prompts, NEW_TOKENS, torch.device("cpu"))
        mask = torch.ones_like(batch.input_ids) if batch.mask is None else batch.mask[:, : batch.input_ids.shape[1]]
        torch.manual_seed(sampling.seed)
        plain = model.generate(
            batch.input_ids,
            attention_mask=mask,
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=None,
            eos_token_id=None,
            pad_token_id=0,
            **generate_arguments(sampling),
        )
        expected = plain[:, batch.input_ids.shape[1] :].tolist()
        assert dict.fromkeys(decoders(model, sampling), expected) == {
            name: write(decoder, prompts) for name, decoder in decoders(model, sampling).items()
        }


class TestRows:
    def test_of_a_padded_batch_write_what_they_write_alone(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama")
        for name, decoder in decoders(model, SamplingConfig()).items():
            alone = [write(decoder, [prompt])[0] for prompt in UNEQUAL]
            assert alone == write(decoder, UNEQUAL), name


class TestStopping:
    def test_every_mode_stops_at_the_same_token(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama")
        free = write(decoders(model, SamplingConfig())["nocache"], EQUAL)[0]
        stop = free[5]
        expected = free[: free.index(stop) + 1]
        for name, decoder in decoders(model, SamplingConfig()).items():
            assert [expected] == write(decoder, EQUAL, (stop,)), name

    def test_finished_rows_are_padded_while_others_go_on(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama")
        free = write(decoders(model, SamplingConfig())["nocache"], UNEQUAL)
        stop = free[1][2]
        rows = {name: write(decoder, UNEQUAL, (stop,)) for name, decoder in decoders(model, SamplingConfig()).items()}
        assert len({str(written) for written in rows.values()}) == 1
        after = rows["cached"][1][rows["cached"][1].index(stop) + 1 :]
        assert {0} == set(after)


class TestThePassRecorder:
    @pytest.mark.parametrize("prompts", [EQUAL, UNEQUAL], ids=["one", "unequal batch"])
    def test_sees_every_mode_keep_its_promise(self, tiny_model: Callable[..., Any], prompts: list[list[int]]) -> None:
        model = tiny_model("llama")
        longest = max(map(len, prompts))
        for name, decoder in decoders(model, SamplingConfig()).items():
            with PassRecorder(model, lambda: None) as recorder:
                write(decoder, prompts)
            proof = prove(recorder.passes, longest, keeps_past=name in ("cached", "generate"))
            assert (NEW_TOKENS, 0) == (proof.steps_checked, proof.violations), (name, proof.first_violation)

    def test_agrees_with_what_the_loops_say_of_themselves(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama")
        for name in ("nocache", "nocache_naive", "cached"):
            decoder = decoders(model, SamplingConfig())[name]
            batch = make_batch(0, EQUAL, NEW_TOKENS, torch.device("cpu"))
            with PassRecorder(model, lambda: None) as recorder:
                decoded = decoder.run(batch, NEW_TOKENS, Unobserved())
            assert recorder.passes == list(decoded.passes), name

    def test_leaves_no_hook_behind(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama")
        with PassRecorder(model, lambda: None):
            pass
        assert not model._forward_hooks
        assert not model._forward_pre_hooks


class TestLogits:
    def test_the_naive_loop_alone_computes_all_positions(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama")
        widths: dict[str, set[int]] = {}
        for name, decoder in decoders(model, SamplingConfig()).items():
            seen = widths.setdefault(name, set())
            hook = model.lm_head.register_forward_hook(lambda _m, _a, output, seen=seen: seen.add(output.shape[1]))
            write(decoder, EQUAL)
            hook.remove()
        assert {1} == widths["nocache"] == widths["cached"] == widths["generate"] == widths["generate_nocache"]
        assert set(range(5, 5 + NEW_TOKENS)) == widths["nocache_naive"]
