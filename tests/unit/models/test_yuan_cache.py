"""Yuan's whole state lives in the caches that transformers ships, and decoding goes on from it exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache
from yuan_models import EOD, small_yuan

from kvbench.decoding.caches import logical_bytes
from kvbench.models.signature import library_cache

pytestmark = pytest.mark.versions

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
CACHES: dict[str, Callable[[Any], Any]] = {
    "dynamic": lambda config: DynamicCache(config=config),
    "static": lambda config: StaticCache(config=config, max_cache_len=48),
}
STEPS = 12


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.inference_mode():
        yield


def texts(prompt: int, rows: int = 3) -> torch.Tensor:
    """Random ids (rows, prompt + STEPS): <eod>s inside the first row's prompt, in the second's decoding, at borders."""
    ids = torch.randint(9, 61, (rows, prompt + STEPS), generator=torch.Generator().manual_seed(prompt))
    ids[0, prompt // 2] = EOD
    ids[1 % rows, prompt + 3] = ids[1 % rows, prompt + 4] = EOD
    ids[-1, prompt - 1] = ids[-1, prompt] = EOD
    return ids


def chunked(model: Any, ids: torch.Tensor, cache: Any, chunks: Sequence[int]) -> torch.Tensor:
    """Logits of all positions, submitted in chunks of these lengths."""
    assert sum(chunks) == ids.shape[1]
    return torch.cat(
        [model(chunk, **library_cache(cache), use_cache=True).logits for chunk in ids.split(list(chunks), 1)], 1
    )


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("make_cache", CACHES.values(), ids=CACHES)
@pytest.mark.parametrize("prompt", [1, 2, 3, 20])
class TestCachedLogits:
    def test_are_those_of_recompute_token_by_token(self, prompt: int, make_cache: Any, dtype: torch.dtype) -> None:
        model, ids = small_yuan(dtype), texts(prompt)
        got = chunked(model, ids, make_cache(model.config), [prompt, *[1] * STEPS])
        assert relative(got, model(ids, use_cache=False).logits) < TOLERANCE[dtype]

    @pytest.mark.parametrize("chunks", [[1, 2, 5, 4], [4, 1, 7], [3, 3, 6], [12]], ids=str)
    def test_are_those_of_recompute_in_unequal_chunks(
        self, prompt: int, make_cache: Any, dtype: torch.dtype, chunks: list[int]
    ) -> None:
        model, ids = small_yuan(dtype), texts(prompt)
        for order in ([prompt, *chunks], [*chunks, prompt]):
            got = chunked(model, ids, make_cache(model.config), order)
            assert relative(got, model(ids, use_cache=False).logits) < TOLERANCE[dtype]


@pytest.mark.parametrize("make_cache", CACHES.values(), ids=CACHES)
class TestAStockCache:
    def test_holds_two_inputs_and_a_column_beside_keys_and_values(self, make_cache: Any) -> None:
        model, ids = small_yuan(), texts(4)
        cache = make_cache(model.config)
        model(ids, **library_cache(cache))
        for layer in cache.layers:
            assert (3, 24, 2) == tuple(layer.conv_states[0].shape)
            assert (3, 1, 1) == tuple(layer.conv_states[1].shape)
        length = 48 if isinstance(cache, StaticCache) else 16
        keys_and_values, inputs, column = 2 * 24 * length * 8, 2 * 24 * 8, 8
        assert logical_bytes(cache) == 3 * 3 * (keys_and_values + inputs + column) + (
            # a static layer counts its tokens in a tensor
            sum(layer.cumulative_length.nbytes for layer in cache.layers) if isinstance(cache, StaticCache) else 0
        )

    def test_is_empty_after_a_reset(self, make_cache: Any) -> None:
        model, ids = small_yuan(), texts(3)
        cache = make_cache(model.config)
        chunked(model, texts(5)[:, : ids.shape[1]], cache, [ids.shape[1]])
        cache.reset()
        if isinstance(cache, DynamicCache):
            cache = make_cache(model.config)  # a dynamic cache keeps its length: only its numbers are wiped
        assert relative(chunked(model, ids, cache, [3, *[1] * STEPS]), model(ids, use_cache=False).logits) < 1e-12

    def test_goes_on_right_after_its_rows_were_reordered(self, make_cache: Any) -> None:
        model, ids = small_yuan(), texts(6)
        order = torch.tensor([2, 0, 1])
        cache = make_cache(model.config)
        model(ids[:, :9], **library_cache(cache))
        cache.reorder_cache(order)
        got = model(ids[order, 9:], **library_cache(cache)).logits
        assert relative(got, model(ids[order], use_cache=False).logits[:, 9:]) < 1e-12

    def test_gives_generate_the_tokens_of_recompute(self, make_cache: Any) -> None:
        model, ids = small_yuan(), texts(6)[:, :6]
        mask = torch.ones_like(ids)
        options = {"attention_mask": mask, "max_new_tokens": 10, "do_sample": False, "eos_token_id": None}
        expected = model.generate(ids, use_cache=False, **options)
        got = model.generate(ids, **library_cache(make_cache(model.config)), disable_compile=True, **options)
        assert expected.tolist() == got.tolist()


class TestCropping:
    @pytest.mark.parametrize("removed", [1, 2, 3, 6, 8])
    def test_takes_tokens_back_even_an_end_of_document(self, removed: int) -> None:
        model = small_yuan()
        ids = torch.tensor([[9, EOD, 30, 14, 22, EOD, 41, 18, 55, 10, 11, 12]])
        cache = DynamicCache(config=model.config)
        cache.activate_past_recording()
        model(ids[:, :9], **library_cache(cache))
        cache.crop(-removed)
        got = model(ids[:, 9 - removed :], **library_cache(cache)).logits
        assert relative(got, model(ids, use_cache=False).logits[:, 9 - removed :]) < 1e-12

    def test_without_a_recorded_past_is_refused(self) -> None:
        model = small_yuan()
        cache = DynamicCache(config=model.config)
        model(texts(4), **library_cache(cache))
        with pytest.raises(RuntimeError, match="activate_past_recording"):
            cache.crop(-1)


class TestPadding:
    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    @pytest.mark.parametrize("make_cache", [None, *CACHES.values()], ids=["none", *CACHES])
    @pytest.mark.parametrize("chunks", [[7, *[1] * 7], [3, 4, 7], [1] * 14, [14]], ids=str)
    def test_on_the_left_changes_nothing(self, chunks: list[int], make_cache: Any, attention: str) -> None:
        model, padding = small_yuan(), 5
        model.set_attn_implementation(attention)
        alone = torch.tensor([[12, 40, EOD, 33, 21, 14, 2, EOD, 5]])
        batch = torch.cat([torch.cat([torch.full((1, padding), EOD), alone], 1), texts(2, 1)])
        mask = torch.ones_like(batch)
        mask[0, :padding] = 0
        positions = (mask.cumsum(-1) - 1).clamp(0)
        cache, begin, logits = make_cache(model.config) if make_cache else None, 0, []
        for size in chunks if cache is not None else [14]:
            end = begin + size
            output = model(
                batch[:, begin:end],
                attention_mask=mask[:, :end],
                position_ids=positions[:, begin:end],
                **library_cache(cache),
                use_cache=cache is not None,
            )
            logits.append(output.logits)
            begin = end
        got = torch.cat(logits, 1)
        assert relative(got[:1, padding:], model(alone, use_cache=False).logits) < 1e-12
        assert relative(got[1:], model(batch[1:], use_cache=False).logits) < 1e-12

    def test_has_to_be_told_token_by_token(self) -> None:
        model = small_yuan()
        with pytest.raises(ValueError, match="attention_mask must be"):
            model(texts(2), attention_mask=torch.ones(3, 1, 14, 14))


def test_a_cache_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="build the cache from this model's config"):
        small_yuan()(texts(2), **library_cache(DynamicCache()), use_cache=True)
