"""Where a broken cache begins to differ, and what it is told to hold there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from agreement_pairs import NEW_TOKENS, Pair

from kvbench.analysis.output_verdict import judge
from kvbench.decoding.compared_steps import Edges
from kvbench.decoding.forward import Forward
from kvbench.decoding.loops import CachedLoop
from kvbench.records.agreement_figures import Agreement, FaultPlace
from kvbench.running.arm_agreement import single_pass

PROMPT = 12
PROMPTS = [list(range(5, 5 + PROMPT)), list(range(40, 40 + PROMPT))]


class Spoiling(CachedLoop):
    """Spoils its cache with `spoil` before the pass that has `when` tokens behind it."""

    when = PROMPT + 3
    spoil: Callable[[Any], None]

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        if length == self.when:
            type(self).spoil(cache)
        return super()._next_logits(ids, batch, length, cache)


def scaled(cache: Any) -> None:
    cache.layers[1].keys[:, :, 5:] *= 1.5


def zeroed(cache: Any) -> None:
    cache.layers[0].keys[:, :, 4] = 0.0
    cache.layers[0].values[:, :, 4] = 0.0


def shifted(cache: Any) -> None:
    cache.layers[0].values[:, :, :-1] = cache.layers[0].values[:, :, 1:].clone()


def swapped(cache: Any) -> None:
    cache.layers[0].keys = cache.layers[0].keys.flip(0)
    cache.layers[0].values = cache.layers[0].values.flip(0)


def narrowed(cache: Any) -> None:
    cache.layers[0].keys = cache.layers[0].keys.bfloat16().float()
    cache.layers[0].values = cache.layers[0].values.bfloat16().float()


def judged(model: Any, loop: type[CachedLoop], **compared: Any) -> Agreement:
    pair = Pair(model, loop, PROMPTS, single=single_pass(Forward(model)), edges=Edges(), **compared)
    return judge(pair.figures())


def place_of(found: Agreement) -> FaultPlace:
    assert "MISMATCH" == found.verdict
    assert found.place is not None
    assert found.cause
    assert found.cause in found.detail
    return found.place


@pytest.mark.parametrize(
    ("spoil", "part", "layer", "positions", "said"),
    [
        (scaled, "keys", 1, (5, PROMPT + 1), "keys of layer 1 differ"),
        (zeroed, "keys and values", 0, (4, 4), "at position 4; they are zero"),
        (shifted, "values", 0, (0, PROMPT), "they are those of the token after"),
        (swapped, "keys and values", 0, (0, PROMPT + 1), "they are another sequence's"),
        (narrowed, "keys and values", 0, (0, PROMPT + 1), "they are rounded"),
    ],
    ids=["scaled", "zeroed", "shifted", "swapped", "narrowed"],
)
def test_the_layer_the_positions_and_what_they_look_like_are_told(
    tiny_model: Callable[..., Any],
    spoil: Callable[[Any], None],
    part: str,
    layer: int,
    positions: tuple[int, int],
    said: str,
) -> None:
    loop = type("Loop", (Spoiling,), {"spoil": staticmethod(spoil)})
    found = judged(tiny_model("llama"), loop)
    place = place_of(found)
    assert place.cache is not None
    assert ("cache", 3, PROMPT + 3) == (place.kind, place.step, place.context)
    assert (part, layer, *positions) == (
        place.cache.part,
        place.cache.layer,
        place.cache.first_position,
        place.cache.last_position,
    )
    assert said in found.cause
    assert f"It begins at new token 3 of prompt 1, with {PROMPT + 3} tokens" in found.cause


def test_a_step_at_a_wrong_position_is_told_by_the_keys_that_it_leaves(tiny_model: Callable[..., Any]) -> None:
    class WrongPosition(CachedLoop):
        def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
            if length > PROMPT:
                batch = type(batch)(0, batch.input_ids, batch.positions + 1, batch.mask, batch.lengths)
            return super()._next_logits(ids, batch, length, cache)

    found = judged(tiny_model("llama"), WrongPosition)
    place = place_of(found)
    assert place.cache is not None
    assert ("keys", 0, PROMPT) == (place.cache.part, place.cache.layer, place.cache.first_position)
    assert f"at position {PROMPT}" in found.cause
    assert "it is their positions or what is done to keys alone" in found.cause


def test_a_cache_that_is_right_points_to_the_step(tiny_model: Callable[..., Any]) -> None:
    class OtherLogits(CachedLoop):
        def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
            logits, passes = super()._next_logits(ids, batch, length, cache)
            return (logits * 1.01 if length > PROMPT else logits), passes

    found = judged(tiny_model("llama"), OtherLogits)
    assert "step" == place_of(found).kind
    assert "what the cache holds is right" in found.cause


def test_random_numbers_in_a_pass_are_told(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    model.model.norm.register_forward_hook(lambda *got: torch.nn.functional.dropout(got[2], 0.1, training=True))
    assert "random" == place_of(judged(model, CachedLoop)).kind


def test_a_window_that_the_model_does_not_have_is_told(tiny_model: Callable[..., Any]) -> None:
    """The config has one left over: the cache forgets what the attention looks at."""
    found = judged(tiny_model("llama", sliding_window=8), CachedLoop)
    place = place_of(found)
    assert ("window", 8) == (place.kind, place.window)
    assert "the window of 8 tokens in the model's config makes this cache forget" in found.cause
    assert found.cause.endswith("cache=full keeps them")


def test_rotary_embeddings_that_depend_on_the_length_are_told_as_no_fault(tiny_model: Callable[..., Any]) -> None:
    rotary = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    model = tiny_model("llama", max_position_embeddings=PROMPT + 2, rope_parameters=rotary)
    found = judged(model, CachedLoop)
    assert "rotary_length" == place_of(found).kind
    assert "rightly differ here" in found.cause


def test_attention_that_looks_ahead_is_told(tiny_model: Callable[..., Any]) -> None:
    found = judged(tiny_model("bert", is_decoder=False), CachedLoop)
    assert "looks_ahead" == place_of(found).kind
    assert "the attention looks ahead, so no cache can hold them" in found.cause


def test_chunks_that_a_model_does_not_compute_as_one_pass_are_told(tiny_model: Callable[..., Any]) -> None:
    class Chunked(CachedLoop):
        """Its second chunk does not see the first one's first token."""

        def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
            made = super()._next_logits(ids, batch, length, cache)
            if length == PROMPT:
                cache.layers[1].keys[:, :, 6:] += 0.5
                made = (made[0] * 1.01, made[1])
            return made

    found = judged(tiny_model("llama"), Chunked, chunk=6)
    assert 6 == place_of(found).chunk
    assert "leave workload.prefill_chunk out" in found.cause


def test_nothing_is_looked_for_where_nothing_is_wrong(tiny_model: Callable[..., Any]) -> None:
    found = judged(tiny_model("llama"), CachedLoop)
    assert (None, "") == (found.place, found.cause)
    assert NEW_TOKENS == found.steps


def test_a_model_that_cannot_be_looked_into_says_so(tiny_model: Callable[..., Any]) -> None:
    """The place was left out in silence."""

    def refuses(_: Any) -> Any:
        raise ValueError("no whole passes here")

    model = tiny_model("llama")
    loop = type("Loop", (Spoiling,), {"spoil": staticmethod(zeroed)})
    single = replace(single_pass(Forward(model)), fill=refuses)  # type: ignore[type-var]
    pair = Pair(model, loop, PROMPTS, single=single, edges=Edges())
    found = judge(pair.figures())
    assert "unseen" == place_of(found).kind
    assert f"It begins at new token 3 of prompt 1, with {PROMPT + 3} tokens" in found.cause
    assert "could not be looked into there (ValueError: no whole passes here)" in found.cause
