"""A model is called by the names of its own code, whatever the installed transformers calls them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from kvbench import library_versions
from kvbench.config.schema import SamplingConfig
from kvbench.decoding.caches import logical_bytes
from kvbench.decoding.engines.compiled import Compiled
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.generate import Generate
from kvbench.decoding.loops import CachedLoop, Habits, Loop, NoCacheLoop
from kvbench.decoding.protocol import Decoded, Unobserved
from kvbench.decoding.recorder import PassRecorder, recorder_of
from kvbench.decoding.sampling import Sampler
from kvbench.decoding.settings import SessionSettings
from kvbench.errors import ModelUnavailable
from kvbench.models.signature import library_cache, returned_cache, signature_of

pytestmark = pytest.mark.versions

TinyModel = Callable[..., Any]
CPU = torch.device("cpu")
NEW_TOKENS = 5
# What keeps its past in a state of its own, with what its config needs to be tiny.
STATES: dict[str, dict[str, Any]] = {
    "falcon_mamba": {},
    "mamba": {},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1},
    "minimax": {
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_experts_per_tok": 1,
        "num_key_value_heads": 2,
        "num_local_experts": 2,
    },
    "rwkv": {"attention_hidden_size": 64},
    "xlstm": {"hidden_size": 128, "num_heads": 2},
}


class ByOlderName(torch.nn.Module):
    """A model whose own code says `past_key_values`, as what comes with a checkpoint may for years."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.config, self.device = inner, inner.config, inner.device

    def forward(self, input_ids: Any, past_key_values: Any = None, **arguments: Any) -> Any:
        return self.inner(input_ids=input_ids, **library_cache(past_key_values), **arguments)


class ByMambasName(ByOlderName):
    def forward(self, input_ids: Any, cache_params: Any = None, **arguments: Any) -> Any:
        return self.inner(input_ids=input_ids, **library_cache(cache_params), **arguments)


class ByUnknownName(ByOlderName):
    """A transformers that has renamed the argument again."""

    def modules(self) -> Iterator[Any]:  # type: ignore[override]
        """Itself alone: it stands for a model and wraps none."""
        return iter((self,))

    def forward(self, input_ids: Any, kv_store: Any = None, **arguments: Any) -> Any:
        return self.inner(input_ids=input_ids, **library_cache(kv_store), **arguments)


class Swallowing(ByOlderName):
    """A transformers in which the argument has lost its meaning."""

    def forward(self, input_ids: Any, cache: Any = None, **arguments: Any) -> Any:
        return self.inner(input_ids=input_ids, **arguments)


def loop(kind: type[Loop], model: Any, **named: Any) -> Loop:
    setting = SessionSettings("auto", model.config._attn_implementation, 0)
    return kind(Forward(model), Sampler(SamplingConfig()), setting, 0, **named)


def write(decoder: Loop | Generate) -> Decoded:
    return decoder.run(make_batch(0, [[5, 6, 7]], NEW_TOKENS, CPU), NEW_TOKENS, Unobserved())


@contextmanager
def transformers_log(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What transformers' logger says meanwhile: the alias of an output field only logs."""
    logger = transformers_logging.get_logger("transformers")
    transformers_logging.warning_once.cache_clear()  # else it is silent the second time
    logger.addHandler(caplog.handler)
    said: list[str] = []
    try:
        with caplog.at_level(logging.WARNING, logger="transformers"):
            yield said
    finally:
        logger.removeHandler(caplog.handler)
        said += [record.getMessage() for record in caplog.records]


@pytest.fixture
def newer_than_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_versions, "version", lambda package: "99.1.0")


class TestEveryWayOfCalling:
    @pytest.mark.parametrize("kind", [ByOlderName, ByMambasName])
    @pytest.mark.parametrize("engine", ["eager", "compiled"])
    def test_hands_the_cache_over_by_the_models_own_name(
        self, tiny_model: TinyModel, kind: type[ByOlderName], engine: str
    ) -> None:
        plain = tiny_model("llama", num_hidden_layers=1)
        model = kind(plain)
        expected = write(loop(NoCacheLoop, plain)).new_ids
        if engine == "compiled":
            from kvbench.decoding.caches import CacheMaker

            caches = CacheMaker(Forward(model), "static", kept=True)
            decoder = loop(CachedLoop, model, engine=Compiled(CPU, "default"), caches=caches)
        else:
            decoder = loop(CachedLoop, model)
        with PassRecorder(model, lambda: None) as recorder:
            found = write(decoder)
        assert torch.equal(expected, found.new_ids)
        assert [(3, 0, 3), (1, 3, 4), (1, 4, 5), (1, 5, 6), (1, 6, 7)] == [
            (made.submitted, made.past_before, made.past_after) for made in recorder.passes
        ]

    @pytest.mark.parametrize("architecture", ["gemma", "llama", "gpt2", "qwen3", "yuan"])
    def test_meets_no_alias_of_the_installed_transformers(
        self, tiny_model: TinyModel, architecture: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Warnings are errors in these tests, which holds the arguments; an output's alias only logs."""
        model = tiny_model(architecture)
        setting = SessionSettings("auto", model.config._attn_implementation, 0)
        with transformers_log(caplog) as said:
            for kind in (NoCacheLoop, CachedLoop):
                write(loop(kind, model))
            for use_cache in (True, False):
                write(Generate(model, {"do_sample": False}, setting, 0, use_cache=use_cache))
        assert [] == [line for line in said if "deprecated" in line]

    def test_reads_a_returned_cache_by_whatever_name(self, tiny_model: TinyModel) -> None:
        model = tiny_model("llama")
        with torch.inference_mode():
            output = model(input_ids=torch.ones(1, 4, dtype=torch.long), use_cache=True)
            without = model(input_ids=torch.ones(1, 4, dtype=torch.long), use_cache=False)
        assert 4 == returned_cache(output).get_seq_length()
        assert returned_cache(without) is None


@cache
def with_a_state(kind: str) -> Any:
    """A model whose first token can be told from its second: random weights of the usual width repeat one token."""
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 97, "state_size": 8, **STATES[kind]}
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=1.5 / 64**0.5)
    return model.eval()


class ForgettingLoop(CachedLoop):
    """Drops what the model has made and begins again with the newest token alone."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        cache.cache = None
        return super()._next_logits(ids, batch, length, cache)


@pytest.mark.parametrize("kind", STATES)
class TestAModelWithAStateOfItsOwn:
    def test_gets_it_back_from_every_pass(self, kind: str) -> None:
        model = with_a_state(kind)
        setting = SessionSettings("auto", model.config._attn_implementation, 0)
        expected = write(loop(NoCacheLoop, model)).new_ids
        assert (None, True) == (signature_of(model).cache, signature_of(model).makes_state)
        for decoder in (loop(CachedLoop, model), Generate(model, {"do_sample": False}, setting, 0, use_cache=True)):
            with recorder_of(model, lambda: None, keeps_past=True) as recorder:
                found = write(decoder)
            assert expected.tolist() == found.new_ids.tolist()
            assert [(3, 0, 3), (1, 3, 4), (1, 4, 5), (1, 5, 6), (1, 6, 7)] == recorder.passes
            assert recorder.state is not None
            assert logical_bytes(recorder.state) == recorder.kv_bytes[-1] > 0

    def test_that_is_handed_none_back_is_seen(self, kind: str) -> None:
        model = with_a_state(kind)
        with recorder_of(model, lambda: None, keeps_past=True) as recorder:
            write(loop(ForgettingLoop, model))
        assert [(3, 0, 3), (1, 0, 1), (1, 0, 1), (1, 0, 1), (1, 0, 1)] == recorder.passes
        with recorder_of(model, lambda: None, keeps_past=False) as recorder:
            write(loop(NoCacheLoop, model, habits=Habits(frozenset({"dropped_cache"}))))
        assert [(length, None, None) for length in (3, 4, 5, 6, 7)] == recorder.passes


# Not rwkv, whose own step mixes the rows of a batch up.
@pytest.mark.parametrize("kind", sorted(STATES.keys() - {"rwkv"}))
def test_a_state_is_made_of_prompts_of_unequal_length(kind: str) -> None:
    batch = make_batch(0, [[5, 6, 7, 8], [9, 10]], NEW_TOKENS, CPU)
    model = with_a_state(kind)
    expected, found = (
        loop(each, model).run(batch, NEW_TOKENS, Unobserved()).new_ids for each in (NoCacheLoop, CachedLoop)
    )
    assert expected.tolist() == found.tolist()


class Prefixed(ByOlderName):
    """A model that puts two tokens of its own in front of the first ones, as CPM-Ant does with 32."""

    def forward(self, input_ids: Any, cache: Any = None, **arguments: Any) -> Any:
        if cache is not None and cache.get_seq_length() == 0:
            input_ids = torch.cat([input_ids[:, :1], input_ids[:, :1], input_ids], dim=1)
            arguments.pop("position_ids", None)
        return self.inner(input_ids=input_ids, **library_cache(cache), **arguments)


def test_a_cache_that_holds_more_than_was_handed_in_is_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(ModelUnavailable, match=r"after 3 tokens the cache of Prefixed holds 5: .* use mode=nocache"):
        write(loop(CachedLoop, Prefixed(tiny_model("llama", num_hidden_layers=1))))


class TestAModelWithAConfigOfItsOwn:
    def test_is_called_like_any_other(self, tiny_model: TinyModel) -> None:
        """Code that comes with a checkpoint may call its number of layers what it likes."""

        class Odd:
            def get_text_config(self, **_: object) -> object:
                raise AttributeError("no num_hidden_layers")

        model = tiny_model("llama")
        model.config = Odd()
        found = signature_of(model)
        assert (library_cache(1), False) == (found.handing(1), found.makes_state)


class TestATransformersThatIsNotKnownYet:
    def test_is_named_where_an_argument_has_a_new_name(self, tiny_model: TinyModel, newer_than_tested: None) -> None:
        with pytest.raises(ModelUnavailable) as refused:
            Forward(ByUnknownName(tiny_model("llama"))).require_cache()
        assert (
            "ByUnknownName takes no cache, so mode=cached cannot run: use mode=nocache (transformers 99.1.0 is newer"
            " than 5.24.0, the newest that kvbench was tested with; pip install transformers==5.24.0 if this goes"
            " wrong)"
        ) == str(refused.value)

    def test_is_not_named_where_it_is_known(self, tiny_model: TinyModel) -> None:
        with pytest.raises(ModelUnavailable) as refused:
            Forward(ByUnknownName(tiny_model("llama"))).require_cache()
        assert "ByUnknownName takes no cache, so mode=cached cannot run: use mode=nocache" == str(refused.value)

    def test_is_seen_where_an_argument_does_nothing(self, tiny_model: TinyModel) -> None:
        model = tiny_model("llama")
        assert Forward(model).fills_cache()
        assert not Forward(Swallowing(model)).fills_cache()
