"""An engine takes the place of the model's forward while a run lasts: the same tokens, seen by every hook as ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compiling import only_traced
from torch._inductor.exc import InductorError
from transformers import DynamicCache, StaticCache, cache_utils

from kvbench.config.schema import SamplingConfig
from kvbench.decoding import caches
from kvbench.decoding.caches import CacheMaker
from kvbench.decoding.engines.compiled import Compiled
from kvbench.decoding.engines.engine import CacheState, Repeat, Repeating
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.loops import CachedLoop, Loop, NoCacheLoop
from kvbench.decoding.protocol import Decoded, Unobserved
from kvbench.decoding.recorder import PassRecorder
from kvbench.decoding.sampling import Sampler
from kvbench.decoding.settings import SessionSettings, causal_without_mask, nothing_packed
from kvbench.errors import ModelUnavailable
from kvbench.models.signature import library_cache
from kvbench.passes import EXACT, Buckets, prove

pytestmark = pytest.mark.versions

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17, 18]]
UNEQUAL = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15]]
NEW_TOKENS = 14


class Noting(Repeating):
    """Repeats nothing, but writes down what it was asked to prepare and what to repeat."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.prepared: list[dict[str, tuple[int, ...]]] = []

    def _prepared(self, tensors: dict[str, torch.Tensor], cache: Any | None, fixed: dict[str, Any]) -> Repeat:
        self.prepared.append({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        plain = self._plain

        def repeat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
            logits: torch.Tensor = plain(**library_cache(cache), **fixed, **tensors).logits
            return logits

        return repeat


def cached(model: Any, engine: Any = None, kind: str = "static") -> Loop:
    forward = Forward(model)
    maker = CacheMaker(forward, kind, kept=engine is not None)
    return _loop(CachedLoop, forward, engine, caches=maker)


def recompute(model: Any, engine: Any = None, buckets: Buckets = EXACT) -> Loop:
    return _loop(NoCacheLoop, Forward(model), engine, buckets=buckets)


def _loop(kind: type[Loop], forward: Forward, engine: Any, **named: Any) -> Loop:
    setting = SessionSettings("auto", str(forward.model.config._attn_implementation), 0)
    if engine is not None:
        named["engine"] = engine
    return kind(forward, Sampler(SamplingConfig()), setting, 0, **named)


def run(loop: Loop, prompts: list[list[int]] = PROMPTS, new_tokens: int = NEW_TOKENS) -> Decoded:
    loop.prepare(None)
    return loop.run(make_batch(0, prompts, new_tokens, CPU), new_tokens, Unobserved())


def tokens(decoded: Decoded) -> list[list[int]]:
    ids: list[list[int]] = decoded.new_ids.tolist()
    return ids


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "yuan"])
def test_a_step_beside_a_cache_is_prepared_once_and_the_prefill_runs_as_it_is(
    tiny_model: Callable[..., Any], architecture: str
) -> None:
    model, engine = tiny_model(architecture), Noting()
    loop = cached(model, engine)
    first, second = run(loop), run(loop)
    assert tokens(run(cached(model, kind="dynamic"))) == tokens(first) == tokens(second)
    assert [{"input_ids": (2, 1), "position_ids": (2, 1)}] == engine.prepared
    assert 2 * (NEW_TOKENS - 1) == engine.repeated


def test_a_prompt_of_one_token_is_a_prefill_all_the_same(tiny_model: Callable[..., Any]) -> None:
    model, engine = tiny_model("llama"), Noting()
    loop = cached(model, engine)
    decoded = run(loop, [[5]])
    assert tokens(run(cached(model, kind="dynamic"), [[5]])) == tokens(decoded)
    assert NEW_TOKENS - 1 == engine.repeated
    assert tokens(run(loop, [[5]])) == tokens(decoded)


def test_a_layer_that_never_holds_anything_does_not_make_steps_prefills(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_an_empty_layer(config: Any, length: int) -> StaticCache:
        cache = StaticCache(config=config, max_cache_len=length)
        cache.layers.append(cache_utils.LinearAttentionLayer())  # as of a mixture of experts without attention
        return cache

    monkeypatch.setattr(caches, "repeatable_cache", with_an_empty_layer)
    engine = Noting()
    run(cached(tiny_model("llama"), engine))
    assert NEW_TOKENS - 1 == engine.repeated


@pytest.mark.parametrize("prompts", [PROMPTS, UNEQUAL], ids=["equal", "left-padded"])
@pytest.mark.parametrize("architecture", ["llama", "gemma", "qwen3", "gpt2", "yuan"])
def test_padded_passes_write_what_exact_ones_write(
    tiny_model: Callable[..., Any], architecture: str, prompts: list[list[int]]
) -> None:
    model, engine = tiny_model(architecture), Noting()
    exact = run(recompute(model), prompts)
    padded = run(recompute(model, engine, Buckets(8)), prompts)
    assert tokens(exact) == tokens(padded)
    # Contexts of 7 to 20 tokens in buckets of 8: three shapes, and every pass is one of them.
    assert [8, 16, 24] == [shapes["input_ids"][1] for shapes in engine.prepared]
    assert [8, 8, *[16] * 8, *[24] * 4] == [made.submitted for made in padded.passes]
    assert 0 == prove(padded.passes, 7, keeps_past=False, buckets=Buckets(8)).violations
    assert 10 == prove(padded.passes, 7, keeps_past=False, buckets=Buckets(12)).violations


def test_no_bucket_is_longer_than_the_models_context() -> None:
    assert (64, 448, 512, 512) == tuple(Buckets(64, 512).padded(tokens) for tokens in (1, 448, 449, 512))
    assert (500, 512) == tuple(Buckets(500, 512).padded(tokens) for tokens in (499, 501))


def test_an_exact_pass_asks_for_the_last_position_as_transformers_does(tiny_model: Callable[..., Any]) -> None:
    model, engine = tiny_model("llama"), Noting()
    run(recompute(model, engine, Buckets(1, 512)))
    assert {"input_ids", "position_ids"} == set(engine.prepared[0])
    run(recompute(model, engine, Buckets(8, 512)))
    assert {"input_ids", "position_ids", "logits_to_keep"} == set(engine.prepared[-1])


def test_a_pass_recorder_sees_every_pass_and_the_forward_is_put_back(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    with PassRecorder(model, lambda: None) as recorder:
        decoded = run(cached(model, Noting()))
    assert list(decoded.held_passes()) == recorder.passes
    assert "forward" not in model.__dict__


def test_the_forward_is_put_back_when_a_run_fails_and_where_there_was_another(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    hooked = model.forward
    model.forward = hooked  # as accelerate does

    class Failing(Noting):
        def _prepared(self, tensors: Any, cache: Any, fixed: Any) -> Repeat:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run(cached(model, Failing()))
    assert hooked is model.__dict__["forward"]


def test_a_kept_cache_serves_runs_of_its_length_and_no_others(tiny_model: Callable[..., Any]) -> None:
    maker = CacheMaker(Forward(tiny_model("llama")), "static", kept=True)
    long = maker.new(2, 100)
    assert 128 == long.get_max_length()
    assert long is maker.new(2, 128)
    assert 64 == maker.new(2, 30).get_max_length()
    assert long is not maker.new(2, 129)
    assert long is not maker.new(1, 100)
    maker.release()
    assert long is not maker.new(2, 100)


def test_a_cache_that_did_not_grow_by_what_was_submitted_is_a_violation(tiny_model: Callable[..., Any]) -> None:
    class Forgetful(Noting):
        def _prepared(self, tensors: Any, cache: Any, fixed: Any) -> Repeat:
            repeat = super()._prepared(tensors, cache, fixed)

            def forgetful(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
                logits = repeat(tensors)
                if self.repeated == 4:  # the fifth, which is counted when it is done
                    cache.layers[0].cumulative_length.sub_(1)
                return logits

            return forgetful

    decoded = run(cached(tiny_model("llama"), Forgetful()))
    assert 0 == prove(decoded.passes, 7, keeps_past=True).violations  # the loop's own count cannot know
    assert 1 == prove(decoded.held_passes(), 7, keeps_past=True).violations


def test_a_rehearsal_leaves_no_trace(tiny_model: Callable[..., Any]) -> None:
    for architecture in ("llama", "yuan"):
        model = tiny_model(architecture)
        cache = StaticCache(config=model.config, max_cache_len=16)
        ids = torch.tensor([[5, 6, 7, 8]])
        with torch.inference_mode():
            model(input_ids=ids, **library_cache(cache), use_cache=True)
            step = {"input_ids": ids[:, :1], "position_ids": torch.tensor([[4]])}
            before = CacheState(cache)
            first = model(**library_cache(cache), use_cache=True, **step).logits
            model(**library_cache(cache), use_cache=True, **step)
            before.restore()
            assert 4 == int(cache.get_seq_length())
            assert torch.equal(first, model(**library_cache(cache), use_cache=True, **step).logits)


def test_a_causal_pass_needs_no_mask_while_it_is_captured(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import masking_utils

    seen: list[Any] = []
    model = tiny_model("mistral", sliding_window=8)
    attend = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: (seen.append(kwargs.get("attn_mask")), attend(*args, **kwargs))[1],
    )
    # As while a pass is captured or compiled; which of them transformers asks about depends on its version.
    for name in ("is_tracing", "is_torchdynamo_exporting"):
        monkeypatch.setattr(masking_utils, name, lambda tensor=None: True, raising=False)
    short, long = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[5, 6, 7, 8] * 3])
    with torch.inference_mode(), nothing_packed():
        usual = model(input_ids=short, use_cache=False).logits
        assert all(mask is not None for mask in seen)
        seen.clear()
        with causal_without_mask():
            plain = model(input_ids=short, use_cache=False).logits
            assert [None] * 3 == seen
            seen.clear()
            model(input_ids=long, use_cache=False)  # beyond the window
            assert all(mask is not None for mask in seen)
    torch.testing.assert_close(usual, plain)


def test_restarting_positions_are_not_looked_for(tiny_model: Callable[..., Any]) -> None:
    from transformers import masking_utils

    ids = torch.tensor([[5, 6, 7, 8]])
    restarting = torch.tensor([[0, 1, 0, 1]])
    model = tiny_model("llama")
    with torch.inference_mode():
        packed = model(input_ids=ids, position_ids=restarting, use_cache=False).logits
        with nothing_packed():
            whole = model(input_ids=ids, position_ids=restarting, use_cache=False).logits
    assert not torch.allclose(packed, whole)  # else transformers asks by another name now
    assert "kvbench" not in masking_utils.find_packed_sequence_indices.__module__


@pytest.fixture(scope="module")
def compilers_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of this module alone: the headers are compiled once, which takes as long as a model's pass."""
    return tmp_path_factory.mktemp("inductor")


@pytest.fixture(params=["traced", pytest.param("generated code", marks=pytest.mark.slow)])
def compiler(request: pytest.FixtureRequest, compilers_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile that has compiled nothing before, in this process."""
    if request.param == "traced":
        only_traced(monkeypatch)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(compilers_cache))
    torch._dynamo.reset()


@pytest.mark.usefixtures("compiler")
def test_a_compiled_step_writes_what_plain_pytorch_writes(tiny_model: Callable[..., Any]) -> None:
    model, engine = tiny_model("llama", num_hidden_layers=1), Compiled(CPU, "default")
    loop = cached(model, engine)
    plain = tokens(run(cached(model, kind="dynamic"), UNEQUAL))
    decoded = run(loop, UNEQUAL)
    assert plain == tokens(decoded)
    assert 0 == prove(decoded.held_passes(), 7, keeps_past=True).violations
    once = engine.prepared_s
    assert 0 < once
    assert plain == tokens(run(loop, UNEQUAL))
    assert once == engine.prepared_s


@pytest.mark.usefixtures("compiler")
def test_compiled_padded_passes_write_what_plain_pytorch_writes_and_no_engine_shares_what_another_has_compiled(
    tiny_model: Callable[..., Any],
) -> None:
    model = tiny_model("llama", num_hidden_layers=1)
    plain = tokens(run(recompute(model)))
    first, second = Compiled(CPU, "default"), Compiled(CPU, "default")
    assert plain == tokens(run(recompute(model, first, Buckets(32))))
    assert isinstance(run(cached(model, kind="dynamic")).cache, DynamicCache)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert plain == tokens(run(recompute(model, second, Buckets(32))))
    assert compiled + 1 == torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_a_library_that_an_interrupted_compilation_left_unfinished_is_named_with_what_to_remove(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every later run ended with the loader's words and the advice to use eager."""

    def broken(*_: Any, **__: Any) -> Any:
        raise InductorError(ImportError("/tmp/inductor/hj/abc.main.so: file too short"), None)

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    with pytest.raises(ModelUnavailable, match=r"abc\.main\.so was left unfinished.*: remove /tmp/inductor/hj and run"):
        run(cached(tiny_model("llama"), Compiled(CPU, "default")))
