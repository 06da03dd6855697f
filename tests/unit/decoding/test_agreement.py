"""A broken cache is called by its name, a sound one never is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from agreement_pairs import (
    NEW_TOKENS,
    PROMPTS,
    CroppedTooFar,
    DroppedFilterState,
    KeptFromBefore,
    NoWindow,
    Pair,
    SwappedRows,
    WrongPosition,
)
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from kvbench.analysis.output_verdict import judge
from kvbench.decoding import rounding, token_path
from kvbench.decoding.agreement import distances
from kvbench.decoding.forward import make_batch
from kvbench.decoding.logit_differences import step_figures
from kvbench.decoding.loops import CachedLoop, Loop, NoCacheLoop
from kvbench.decoding.sampling import Forced
from kvbench.decoding.token_path import Divergence, common_path, divergences, follow
from kvbench.models.signature import handed_cache
from kvbench.passes import UNINTERRUPTED
from kvbench.rounding_limits import OUTER_GATE, allowed_ratio
from kvbench.running.wide_model import WideModel

SLIDING = {"sliding_window": 4}
FAULTS = (WrongPosition, CroppedTooFar, KeptFromBefore, SwappedRows)  # of any cache
BROKEN: dict[str, tuple[dict[str, Any], tuple[type[Loop], ...]]] = {
    **{name: ({}, FAULTS) for name in ("llama", "gemma", "qwen3", "gpt2")},
    "mistral": (SLIDING, (NoWindow,)),
    "gemma2": (SLIDING, (NoWindow,)),
    "yuan": ({}, (DroppedFilterState, KeptFromBefore)),
}
# The faults of any cache are those of a llama's; other architectures repeat them.
BROKEN_IN_BFLOAT16 = [
    pytest.param(name, marks=[pytest.mark.slow] if name in ("gemma", "qwen3", "gpt2") else []) for name in BROKEN
]
SOUND: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma": {"num_key_value_heads": 1, "head_dim": 16},
    "gemma2": {"sliding_window": 8},
    "qwen3": {},
    "mistral": {"sliding_window": 8},
    "gpt2": {},
    "yuan": {},
}
# Seed of the weights, and prompt lengths: a batch of unequal ones is padded.
WORKLOADS = [
    (3, (7, 20, 1)),
    *(pytest.param(*more, marks=pytest.mark.slow) for more in ((1, (1,)), (2, (32,)), (4, (2, 5, 5)))),
]
# Of each dtype and architecture one; in bfloat16 others repeat those whose caches differ.
SOUND_DTYPES = [
    pytest.param(name, dtype, marks=[pytest.mark.slow] if repeats else [], id=f"{name}-{dtype}")
    for name in SOUND
    for dtype in (torch.float32, torch.bfloat16)
    for repeats in [dtype == torch.bfloat16 and name not in ("llama", "gemma2", "yuan")]
]
CLEAR = 4.0  # times rounding's own error, at the worst step: more than any judge may overlook


@pytest.mark.parametrize("architecture", BROKEN)
def test_a_broken_cache_is_a_mismatch_and_a_sound_one_beside_it_is_none(
    tiny_model: Callable[..., Any], architecture: str
) -> None:
    changes, faults = BROKEN[architecture]
    sound, *broken = Pair(tiny_model(architecture, **changes), CachedLoop, beside=faults).each_judged()
    assert sound.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING"), sound.detail
    assert {fault.__name__: "MISMATCH" for fault in faults} == {
        fault.__name__: judged.verdict for fault, judged in zip(faults, broken, strict=True)
    }


@pytest.mark.parametrize("architecture", BROKEN_IN_BFLOAT16)
def test_a_broken_cache_is_a_mismatch_in_bfloat16_where_it_does_more_than_rounding(
    tiny_model: Callable[..., Any], architecture: str
) -> None:
    changes, faults = BROKEN[architecture]
    model = tiny_model(architecture, **changes).to(torch.bfloat16)
    pair = Pair(model, CachedLoop, beside=faults)
    sound, *broken = pair.each_judged()
    assert sound.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING"), sound.detail
    path = common_path(pair.compared.batches[0], (0, 1), pair.tokens(0))
    of_sound, *of_broken = [pair.logits(arm, path) for arm in range(1, 2 + len(faults))]
    rounding_alone = _apart(of_sound, Pair(model.float(), CachedLoop).logits(0, path))
    effects = [_apart(wrong, of_sound) for wrong in of_broken]
    clear = [max(a / b for a, b in zip(effect, rounding_alone, strict=True)) >= CLEAR for effect in effects]
    assert any(clear)
    assert [] == [
        (fault.__name__, judged.detail)
        for fault, judged, is_clear in zip(faults, broken, clear, strict=True)
        if is_clear and judged.verdict != "MISMATCH"
    ]


def _apart(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> list[float]:
    """The root mean square difference of the logits of each step."""
    return [float((a.double() - b.double()).square().mean().sqrt()) for a, b in zip(some, others, strict=True)]


@pytest.mark.parametrize(("seed", "lengths"), WORKLOADS, ids=str)
@pytest.mark.parametrize(("architecture", "dtype"), SOUND_DTYPES)
def test_a_sound_cache_never_is(
    tiny_model: Callable[..., Any], architecture: str, dtype: torch.dtype, seed: int, lengths: tuple[int, ...]
) -> None:
    model = tiny_model(architecture, seed=seed, **SOUND[architecture]).to(dtype)
    dice = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(4, 97, (length,), generator=dice).tolist() for length in lengths]
    judged = Pair(model, CachedLoop, prompts).judged()
    assert judged.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING"), judged.detail


def test_an_arm_is_identical_to_itself(tiny_model: Callable[..., Any]) -> None:
    assert "IDENTICAL" == Pair(tiny_model("gemma"), NoCacheLoop).judged().verdict


def test_logits_that_overflow_are_not_judged(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    model.lm_head.weight.data[0] = torch.inf
    judged = judge(Pair(model, CachedLoop).figures(*[[[3] * NEW_TOKENS] * 2] * 2))
    assert judged.verdict is None
    assert "logits of both arms are not finite numbers" in judged.detail
    assert "try model.dtype" not in judged.detail  # it is float32


class MaskedLogits(CachedLoop):
    """Gives token 5 a score of its own."""

    score = torch.nan

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        logits, passes = super()._next_logits(ids, batch, length, cache)
        return logits.masked_fill(torch.arange(logits.shape[1]) == 5, self.score), passes


def test_logits_that_are_no_numbers_in_one_arm_alone_are_told_as_that_arms(tiny_model: Callable[..., Any]) -> None:
    judged = judge(Pair(tiny_model("llama"), MaskedLogits).figures(*[[[3] * NEW_TOKENS] * 2] * 2))
    assert (None, True) == (judged.verdict, "logits of this arm alone are not finite numbers" in judged.detail)


def test_a_vocabulary_padded_with_minus_infinity_is_judged(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    linear = model.lm_head.forward
    model.lm_head.forward = lambda states: linear(states).index_fill(-1, torch.tensor([5]), -torch.inf)
    judged = Pair(model, CachedLoop).judged()
    assert "EQUAL_WITHIN_ROUNDING" == judged.verdict, judged.detail


class OneSequence(CachedLoop):
    """Scales the keys of the sequence that begins with token 20."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        made = super()._next_logits(ids, batch, length, cache)
        if length == batch.longest:
            rows = torch.where(ids[:, batch.longest - 1] == 22, 1.01, 1.0)
            for layer in cache.layers:
                layer.keys = layer.keys * rows[:, None, None, None]
        return made


class Late(CachedLoop):
    """Scales the first layer's keys at the last steps."""

    def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
        if length == 60:
            cache.layers[0].keys = cache.layers[0].keys * 1.01
        return super()._next_logits(ids, batch, length, cache)


class TestWhatIsCompared:
    """Once only the first batch was, and of it the first steps."""

    PROMPTS = ([5, 6, 7, 8, 9, 10, 11, 12], [20, 21, 22], [30, 31, 32, 33, 34, 35, 36, 37])

    @pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 2, 3], ids="batches of {}".format)
    def test_is_every_prompt_of_every_batch(self, tiny_model: Callable[..., Any], batch_size: int) -> None:
        judged = Pair(tiny_model("llama"), OneSequence, self.PROMPTS, batch_size=batch_size, whole=False).judged()
        batches = -(-3 // batch_size)
        assert judged.error is not None
        assert ("MISMATCH", 1, NEW_TOKENS * batches, batches) == (
            judged.verdict,
            judged.error.step_sequence,
            judged.steps,
            judged.batches,
        )

    def test_is_the_end_of_a_long_decode_too(self, tiny_model: Callable[..., Any]) -> None:
        figures = Pair(tiny_model("llama"), Late, [[5, 6, 7, 8]], new_tokens=60, whole=False).figures()
        assert len(figures.by_step) < 60
        assert "MISMATCH" == judge(figures).verdict

    def test_takes_no_more_memory_at_once_than_it_may(
        self, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = tiny_model("llama")
        whole = Pair(model, CachedLoop).figures()
        monkeypatch.setattr(token_path, "MOST_LOGITS", 2 * 3 * model.config.vocab_size)  # three steps of two rows
        in_parts = Pair(model, CachedLoop).figures()
        assert [step.step for step in whole.by_step] == [step.step for step in in_parts.by_step]
        assert whole.max_abs_logit_diff == in_parts.max_abs_logit_diff


class TestProductsOfAnyKind:
    """Once rounding was measured as 0 where products are no `nn.Linear`, and a sound model was accused."""

    X, W, Q = torch.randn(2, 5, 64), torch.randn(64, 48), torch.randn(2, 4, 5, 16)
    PRODUCTS: Mapping[str, Callable[[Any, Any, Any], Any]] = {
        "linear": lambda x, w, q: functional.linear(x, w.T),
        "@": lambda x, w, q: x @ w,
        "einsum": lambda x, w, q: torch.einsum("bti,io->bto", x, w),
        "bmm": lambda x, w, q: torch.bmm(x, x.transpose(1, 2)),
        "addmm": lambda x, w, q: torch.addmm(w[0], x[0], w),
        "conv1d": lambda x, w, q: functional.conv1d(x.transpose(1, 2), w.T[..., None]),
        "attention": lambda x, w, q: functional.scaled_dot_product_attention(q, q, q, is_causal=True),
        "tensordot": lambda x, w, q: torch.tensordot(x, w, dims=1),
    }

    @pytest.mark.parametrize("product", PRODUCTS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_are_summed_in_another_order_and_are_the_same_function(self, product: str, dtype: torch.dtype) -> None:
        operands = [each.to(dtype) for each in (self.X, self.W, self.Q)]
        orders = [way for way in rounding.other_orders(takes_masks=False, second_attention=None) if way.by_product]
        assert orders
        with torch.inference_mode():
            usual = self.PRODUCTS[product](*operands)
            for order in orders:
                with order.context():
                    other = self.PRODUCTS[product](*operands)
                apart = float((usual - other).abs().max() / usual.abs().max())
                assert 0 < apart < 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
def test_a_mixture_of_experts_is_judged_with_the_references_experts(
    tiny_model: Callable[..., Any], dtype: torch.dtype
) -> None:
    """At a near-tie of a router rounding decides, and another expert is chosen: once taken for a fault."""

    class OtherExperts(CachedLoop):
        """Its routers' scores are a little off: where two are close, another expert is chosen."""

        def _next_logits(self, ids: Any, batch: Any, length: int, cache: Any) -> Any:
            with _Swaps():
                return super()._next_logits(ids, batch, length, cache)

    class _Swaps(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in (torch.topk, torch.Tensor.topk) and args[0].shape[-1] == 4:
                args = (args[0] + torch.tensor([0.0, 0.02, 0.0, 0.02], dtype=args[0].dtype), *args[1:])
            return func(*args, **(kwargs or {}))

    model = tiny_model("mixtral", num_local_experts=4, num_experts_per_tok=2).to(dtype)
    with_routes = Pair(model, OtherExperts, new_tokens=12, experts=4, wider=None)
    path = with_routes.tokens(0)
    judged = judge(with_routes.figures(path, path))
    assert judged.routing is not None
    assert 0 < judged.routing.flips < judged.routing.choices
    assert "its routers chose other experts" in judged.detail
    # An engine's passes cannot be told which to take: rounding is then that of routers that choose freely.
    engine = Pair(model, OtherExperts, new_tokens=12, experts=4, repeats=(False, True))
    figures = engine.figures(path, path)
    assert figures.error is not None
    assert (True, None) == (figures.error.free_experts, figures.routing)


class TestNoise:
    def test_is_measured_without_the_candidate(
        self, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = tiny_model("llama")
        sound, broken = Pair(model, CachedLoop), Pair(model, WrongPosition)
        path = sound.tokens(0)
        figures = [pair.figures(path, path) for pair in (sound, broken)]
        assert figures[0].noise_abs == figures[1].noise_abs

    def test_is_measured_in_every_order_that_can_be_tried_and_leaves_the_attention_of_the_arm_as_it_was(
        self, tiny_model: Callable[..., Any]
    ) -> None:
        model = tiny_model("llama")
        figures = Pair(model, CachedLoop).figures()
        names = ["sums from the other end", "sums in a shuffled order", "twice the rows", "3 columns of padding"]
        assert [*names, "eager attention"] == [way.way for way in figures.noise_ways]
        assert figures.noise_rel == max(way.noise_rel or 0.0 for way in figures.noise_ways)
        assert all(0 < (way.noise_rel or 0.0) < 1e-5 for way in figures.noise_ways[:2])
        assert "sdpa" == model.config._attn_implementation

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_leaves_out_a_way_that_is_another_computation_in_this_model(
        self, tiny_model: Callable[..., Any], dtype: torch.dtype
    ) -> None:
        """A model that takes padding for text once excused every cache: its "rounding" was 0.9 of a logit."""
        model = tiny_model("llama").to(dtype)

        def unmasked(_: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            return args, {name: kwargs[name] for name in kwargs if name not in ("attention_mask", "position_ids")}

        model.register_forward_pre_hook(unmasked, with_kwargs=True)
        figures = Pair(model, CachedLoop).figures()
        (left_out,) = [way for way in figures.noise_ways if way.skipped]
        assert ("3 columns of padding", True) == (left_out.way, "another computation in this model" in left_out.skipped)
        assert (figures.noise_rel or 0.0) < OUTER_GATE[str(dtype).removeprefix("torch.")]

    def test_goes_without_a_way_that_fails(
        self, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = tiny_model("llama")
        pair = Pair(model, CachedLoop)

        def refuse(_: str) -> None:
            raise ValueError("does not support\nan attention implementation")

        path = pair.tokens(0)
        monkeypatch.setattr(model, "set_attn_implementation", refuse)
        figures = pair.figures(path, path)
        skipped = [way.skipped for way in figures.noise_ways if way.skipped]
        assert ["ValueError: does not support an attention implementation"] == skipped
        assert "EQUAL_WITHIN_ROUNDING" == judge(figures).verdict

    def test_shapes_other_than_the_measured_ones_are_used(self) -> None:
        batch = make_batch(0, PROMPTS, 4, torch.device("cpu"))
        padded, doubled = rounding.padded(batch), rounding.doubled(batch)
        assert padded.input_ids.shape == (2, 8 + rounding.NOISE_PADDING)
        assert padded.mask is not None
        assert padded.mask[:, : rounding.NOISE_PADDING].sum() == 0
        assert padded.positions[0, rounding.NOISE_PADDING :].tolist() == batch.positions[0].tolist()
        assert doubled.input_ids.shape == (4, 8)


class TestDivergences:
    def test_are_the_first_of_each_sequence_the_earliest_in_front(self) -> None:
        assert divergences([[1, 2, 3], [4, 5, 6]], [[1, 2, 9], [4, 8, 6]]) == [Divergence(1, 1), Divergence(2, 0)]

    def test_count_an_early_end(self) -> None:
        assert divergences([[1, 2, 3]], [[1, 2]]) == [Divergence(2, 0)]

    def test_are_none_for_equal_tokens(self) -> None:
        assert divergences([[1, 2]], [[1, 2]]) == []

    def test_of_several_the_one_decides_where_the_baseline_was_surest(self, tiny_model: Any) -> None:
        """Only the earliest was looked at: a near-tie in one prompt hid a broken cache in another."""
        places = [(1, 5), (5, 1), (3, 3)]  # steps at which the two prompts of an arm part
        pair = Pair(tiny_model("llama"), CachedLoop, beside=[CachedLoop] * 2)
        tokens = pair.tokens(0)
        logits = pair.logits(0, torch.tensor(tokens))
        runs = []
        for steps in places:
            parted = [list(row) for row in tokens]
            for row, step in enumerate(steps):  # what the arm is second-surest of
                parted[row][step] = int(logits[step][row].topk(2).indices[1])
            runs.append(parted)
        for steps, figures in zip(places, pair.each_figures(tokens, *runs), strict=True):
            leads = [float(-logits[step][row].topk(2).values.diff()) for row, step in enumerate(steps)]
            surest = leads.index(max(leads))
            assert (surest, steps[surest]) == (figures.divergence_sequence, figures.first_divergence)
            assert max(leads) == pytest.approx(figures.top2_margin, rel=1e-3)


class TestTheSteps:
    def test_are_told_one_by_one_with_the_worst_row(self) -> None:
        reference = [torch.tensor([[4.0, 1.0], [2.0, 0.5]]), torch.tensor([[1.0, 3.0], [0.0, 0.25]])]
        judged = [torch.tensor([[4.0, 1.5], [2.0, 0.5]]), torch.tensor([[1.0, 3.0], [0.5, 0.25]])]
        first, second = step_figures(reference, judged, (0, 1))
        assert [0, 0.5, 0.125, 0, 1.5] == [
            getattr(first, name)
            for name in ("step", "max_abs_logit_diff", "max_rel_logit_diff", "flips", "top2_margin")
        ]
        assert (1, 0.5, 0.125, 1, 0.25) == (
            second.step,
            second.max_abs_logit_diff,
            second.max_rel_logit_diff,
            second.flips,
            second.top2_margin,
        )

    def test_have_the_divergence_of_the_judged_from_the_reference(self) -> None:
        even, odd = [torch.tensor([[0.0, 0.0]])], [torch.tensor([[0.0, 1.0]])]
        (step,) = step_figures(even, odd, (0,))
        # log(1 + e) - log 2 - 1 / 2, by hand
        assert 0.12011450695827751 == pytest.approx(step.kl, rel=1e-9)
        assert 0.0 == step_figures(odd, odd, (0,))[0].kl

    def test_of_logits_that_are_all_zero_are_zero(self) -> None:
        zeros = [torch.zeros(1, 3)]
        assert (0.0, 0.0) == (
            step_figures(zeros, zeros, (0,))[0].max_abs_logit_diff,
            step_figures(zeros, zeros, (0,))[0].max_rel_logit_diff,
        )

    def test_add_up_to_the_figures_of_the_comparison(self, tiny_model: Callable[..., Any]) -> None:
        pair = Pair(tiny_model("llama").to(torch.bfloat16), WrongPosition)
        figures = pair.figures()
        assert list(range(NEW_TOKENS)) == [step.step for step in figures.by_step]
        assert figures.max_abs_logit_diff == max(step.max_abs_logit_diff or 0.0 for step in figures.by_step)
        assert figures.argmax_flips == sum(step.flips for step in figures.by_step) > 0
        assert [0.0] == [figures.by_step[0].max_abs_logit_diff]  # the prefill has the right positions


class TestAReference:
    def test_puts_a_sound_cache_as_far_away_as_its_baseline(self, tiny_model: Callable[..., Any]) -> None:
        pair = Pair(tiny_model("llama").to(torch.bfloat16), CachedLoop)
        baseline, cached = distances(pair.compared, [pair.tokens(0), pair.tokens(1)], "float32", "cpu")
        assert ("float32", "cpu", NEW_TOKENS, 0) == (baseline.dtype, baseline.device, baseline.steps, baseline.arm)
        assert baseline.max_rel_logit_diff is not None
        assert cached.max_rel_logit_diff is not None
        assert 0 < baseline.max_rel_logit_diff < 0.1
        assert 1 / 3 < cached.max_rel_logit_diff / baseline.max_rel_logit_diff < 3

    def test_of_the_same_values_is_the_model_itself(self, tiny_model: Callable[..., Any]) -> None:
        pair = Pair(tiny_model("gemma2", sliding_window=4), CachedLoop)
        (baseline,) = distances(pair.compared, [pair.tokens(0)], "float64", "cpu")
        assert baseline.max_rel_logit_diff is not None
        assert baseline.max_rel_logit_diff < 1e-6
        assert 0 == baseline.argmax_flips

    def test_is_what_a_cache_is_held_against(self, tiny_model: Callable[..., Any]) -> None:
        for dtype, wider in ((torch.float32, "float64"), (torch.bfloat16, "float32")):
            error = Pair(tiny_model("llama").to(dtype), CachedLoop).figures().error
            assert error is not None
            assert (wider, NEW_TOKENS * 2) == (error.reference, error.samples)
            assert 0.3 < error.ratio < allowed_ratio(error.samples)

    def test_that_leads_back_to_the_model_itself_is_none(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama").to(torch.bfloat16)
        pair = Pair(model, CachedLoop)
        back = lambda batch, forced: follow(pair.decoder(0, forced), forced, batch)  # noqa: E731
        pair.compared = replace(pair.compared, wider=back)
        figures = pair.figures()
        assert (None, True) == (figures.error, "computes something else" in figures.without_reference)
        judged = judge(figures)
        assert judged.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
        assert figures.without_reference in judged.detail

    def test_is_the_model_itself_for_a_while(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama", tie_word_embeddings=True).to(torch.bfloat16)
        before, dtype = {name: tensor.clone() for name, tensor in model.state_dict().items()}, model.config.dtype
        with WideModel(model, torch.float64, torch.device("cpu")).computing():
            assert ({torch.float64}, torch.float64) == ({weight.dtype for weight in model.parameters()}, model.dtype)
            assert model.lm_head.weight is model.model.embed_tokens.weight
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert (torch.bfloat16, dtype) == (model.dtype, model.config.dtype)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())

    def test_takes_back_what_its_passes_left_in_the_modules(self, tiny_model: Callable[..., Any]) -> None:
        """Dynamic rotary embeddings keep tables for the longest pass so far."""
        rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
        model = tiny_model("llama", max_position_embeddings=16, rope_parameters=rope)
        tables = lambda: {name: tensor.tolist() for name, tensor in model.named_buffers()}  # noqa: E731
        before = tables()
        batch = make_batch(0, [[*range(5, 45)]], 2, torch.device("cpu"))
        wide = WideModel(model, torch.float64, torch.device("cpu"))
        wide.recomputed(UNINTERRUPTED, batch, Forced(torch.tensor([[1, 2]])))
        assert before == tables()
        model(batch.input_ids)
        assert before != tables()

    def test_goes_through_a_forward_that_was_put_there_from_outside(self, tiny_model: Callable[..., Any]) -> None:
        """A copy of such a model led back to the model itself, and a cache that drops a token passed in bfloat16."""
        model = tiny_model("llama").to(torch.bfloat16)
        inner = model.model.forward

        def forgetful(*args: Any, **kwargs: Any) -> Any:
            ids, cache = kwargs["input_ids"], handed_cache(kwargs)
            if ids.shape[1] == 1 and cache is not None:
                mask = torch.ones(len(ids), cache.get_seq_length() + 1)
                mask[:, 0] = 0
                kwargs = kwargs | {"attention_mask": mask.long()}
            return inner(*args, **kwargs)

        model.model.forward = forgetful
        judged = Pair(model, CachedLoop).judged()
        assert judged.error is not None
        assert ("float32", "MISMATCH") == (judged.error.reference, judged.verdict)


class TestThePath:
    def test_goes_on_with_the_last_token_of_a_sequence_that_ended(self, tiny_model: Callable[..., Any]) -> None:
        pair = Pair(tiny_model("llama"), CachedLoop)
        baseline, candidate = [[9, 9], [7, 7, 7, 7, 7, 3]], [[9, 9], [7, 7, 7, 7, 7, 4]]
        batch = pair.compared.batches[0]
        assert [[9] * 6, [7, 7, 7, 7, 7, 3]] == common_path(batch, (0, 1), baseline).tolist()
        figures = pair.figures(baseline, candidate)
        assert (6, 5, 1) == (figures.steps, figures.first_divergence, figures.divergence_sequence)
        assert figures.by_step[5].top2_margin is not None
        assert figures.top2_margin is not None
        assert figures.top2_margin >= figures.by_step[5].top2_margin
