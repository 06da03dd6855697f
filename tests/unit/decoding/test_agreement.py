"""A broken cache is called by its name, a sound one never is."""

from __future__ import annotations

from collections.abc import Callable
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

from kvbench.analysis.comparison import RESOLUTION, judge, tolerance
from kvbench.decoding import rounding
from kvbench.decoding.agreement import FEW_STEPS, Divergence, common_path, compare, divergences, step_figures
from kvbench.decoding.forward import make_batch
from kvbench.decoding.loops import CachedLoop, Loop, NoCacheLoop
from kvbench.passes import UNINTERRUPTED
from kvbench.records.agreement_figures import AgreementFigures, AgreementStep, NoiseWay
from kvbench.running.arm_agreement import reference_distances, widened

SLIDING = {"sliding_window": 4}
BROKEN = [
    *((name, {}, loop) for name in ("llama", "gemma", "qwen3", "gpt2") for loop in (
        WrongPosition, CroppedTooFar, KeptFromBefore, SwappedRows
    )),
    ("mistral", SLIDING, NoWindow),
    ("gemma2", SLIDING, NoWindow),
    ("yuan", {}, DroppedFilterState),
    ("yuan", {}, KeptFromBefore),
]  # fmt: skip
BROKEN_IDS = [f"{name}-{loop.__name__}" for name, _, loop in BROKEN]
# The four faults of any cache are those of a llama's; other architectures repeat them.
BROKEN_IN_BFLOAT16 = [
    pytest.param(*each, marks=[pytest.mark.slow] if each[0] in ("gemma", "qwen3", "gpt2") else [], id=name)
    for each, name in zip(BROKEN, BROKEN_IDS, strict=True)
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
CLEAR = 10.0  # times what a sound cache is away from the wide reference: more than rounding, by any judge


@pytest.mark.parametrize(("architecture", "changes", "broken"), BROKEN, ids=BROKEN_IDS)
def test_a_broken_cache_is_a_mismatch(
    tiny_model: Callable[..., Any], architecture: str, changes: dict[str, Any], broken: type[Loop]
) -> None:
    assert "MISMATCH" == Pair(tiny_model(architecture, **changes), broken).judged().verdict


@pytest.mark.parametrize(("architecture", "changes", "broken"), BROKEN_IN_BFLOAT16)
def test_a_broken_cache_is_a_mismatch_in_bfloat16_where_it_does_more_than_rounding(
    tiny_model: Callable[..., Any], architecture: str, changes: dict[str, Any], broken: type[Loop]
) -> None:
    model = tiny_model(architecture, **changes).to(torch.bfloat16)
    pairs = [Pair(model, loop) for loop in (broken, CachedLoop)]
    _, path = common_path(pairs[0], pairs[0].tokens(0), None, None)
    wide = widened(model, torch.float64, torch.device("cpu"))
    effect, sound = (
        reference_distances(pair, wide, [1], 0, path, UNINTERRUPTED)[0].max_rel_logit_diff for pair in pairs
    )
    assert effect is not None
    assert sound is not None
    if effect < CLEAR * sound:
        pytest.skip(f"within rounding here: {effect:.1e}, a sound cache {sound:.1e}")
    assert "MISMATCH" == pairs[0].judged().verdict


@pytest.mark.parametrize(("seed", "lengths"), WORKLOADS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("architecture", SOUND)
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
    figures = compare(Pair(model, CachedLoop), 1, [[3] * NEW_TOKENS] * 2, [[3] * NEW_TOKENS] * 2, FEW_STEPS)
    judged = judge(figures)
    assert judged.verdict is None
    assert "not finite" in judged.detail


class TestNoise:
    def test_is_measured_without_the_candidate(
        self, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = tiny_model("llama")
        sound, broken = Pair(model, CachedLoop), Pair(model, WrongPosition)
        path = sound.tokens(0)
        figures = [compare(pair, 1, path, path, FEW_STEPS) for pair in (sound, broken)]
        assert figures[0].noise_abs == figures[1].noise_abs

    def test_is_measured_in_every_order_that_can_be_tried(self, tiny_model: Callable[..., Any]) -> None:
        pair = Pair(tiny_model("llama"), CachedLoop)
        figures = compare(pair, 1, pair.tokens(0), pair.tokens(1), None)
        names = ["twice the rows", "3 columns of padding", "eager attention", "sums from the other end"]
        assert names == [way.way for way in figures.noise_ways]
        assert figures.noise_rel == max(way.noise_rel or 0.0 for way in figures.noise_ways)
        assert 0 < (figures.noise_ways[-1].noise_rel or 0.0) < 1e-5

    def test_leaves_the_attention_of_the_arm_as_it_was(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama")
        pair = Pair(model, CachedLoop)
        compare(pair, 1, pair.tokens(0), pair.tokens(1), 2)
        assert "sdpa" == model.config._attn_implementation

    def test_goes_without_a_way_that_fails(
        self, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = tiny_model("llama")
        pair = Pair(model, CachedLoop)

        def refuse(_: str) -> None:
            raise ValueError("does not support\nan attention implementation")

        path = pair.tokens(0)
        monkeypatch.setattr(model, "set_attn_implementation", refuse)
        figures = compare(pair, 1, path, path, 2)
        skipped = [way.skipped for way in figures.noise_ways if way.skipped]
        assert ["ValueError: does not support an attention implementation"] == skipped
        assert "EQUAL_WITHIN_ROUNDING" == judge(figures).verdict

    @pytest.mark.parametrize("architecture", ["llama", "gpt2"])
    def test_from_the_other_end_of_the_sums_is_the_same_function(
        self, tiny_model: Callable[..., Any], architecture: str
    ) -> None:
        model, ids = tiny_model(architecture), torch.tensor([PROMPTS[0]])
        with torch.inference_mode():
            forwards = model(ids).logits
            with rounding.FromTheOtherEnd():
                backwards = model(ids).logits
        difference = float((forwards - backwards).abs().max() / forwards.abs().max())
        assert 0 < difference < 1e-5

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

    @pytest.mark.parametrize("steps", [(1, 5), (5, 1), (3, 3)])
    def test_of_several_the_one_decides_where_the_baseline_was_surest(
        self, steps: tuple[int, int], tiny_model: Any
    ) -> None:
        """Only the earliest was looked at: a near-tie in one prompt hid a broken cache in another."""
        pair = Pair(tiny_model("llama"), CachedLoop)
        tokens = pair.tokens(0)
        logits = pair.logits(0, torch.tensor(tokens))
        leads = [float(-logits[step][row].topk(2).values.diff()) for row, step in enumerate(steps)]
        parted = [list(row) for row in tokens]
        for row, step in enumerate(steps):
            parted[row][step] += 1
        figures = compare(pair, 1, tokens, parted, None)
        surest = leads.index(max(leads))
        assert (surest, steps[surest]) == (figures.divergence_sequence, figures.first_divergence)
        assert max(leads) == pytest.approx(figures.top2_margin, rel=1e-3)


class TestTheSteps:
    def test_are_told_one_by_one_with_the_worst_row(self) -> None:
        reference = [torch.tensor([[4.0, 1.0], [2.0, 0.5]]), torch.tensor([[1.0, 3.0], [0.0, 0.25]])]
        judged = [torch.tensor([[4.0, 1.5], [2.0, 0.5]]), torch.tensor([[1.0, 3.0], [0.5, 0.25]])]
        first, second = step_figures(reference, judged)
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
        (step,) = step_figures(even, odd)
        # log(1 + e) - log 2 - 1 / 2, by hand
        assert 0.12011450695827751 == pytest.approx(step.kl, rel=1e-9)
        assert 0.0 == step_figures(odd, odd)[0].kl

    def test_of_logits_that_are_all_zero_are_zero(self) -> None:
        zeros = [torch.zeros(1, 3)]
        assert (0.0, 0.0) == (
            step_figures(zeros, zeros)[0].max_abs_logit_diff,
            step_figures(zeros, zeros)[0].max_rel_logit_diff,
        )

    def test_add_up_to_the_figures_of_the_comparison(self, tiny_model: Callable[..., Any]) -> None:
        pair = Pair(tiny_model("llama").to(torch.bfloat16), WrongPosition)
        figures = compare(pair, 1, pair.tokens(0), pair.tokens(1), None)
        assert list(range(NEW_TOKENS)) == [step.step for step in figures.by_step]
        assert figures.max_abs_logit_diff == max(step.max_abs_logit_diff or 0.0 for step in figures.by_step)
        assert figures.argmax_flips == sum(step.flips for step in figures.by_step) > 0
        assert [0.0] == [figures.by_step[0].max_abs_logit_diff]  # the prefill has the right positions

    def test_in_the_record_keep_the_worst_and_every_flip_of_thousands(self) -> None:
        steps = [
            AgreementStep(
                step=index, max_abs_logit_diff=1e-7, max_rel_logit_diff=1e-8, kl=0.0, flips=0, top2_margin=1.0
            )
            for index in range(2000)
        ]
        steps[1001] = steps[1001].model_copy(update={"flips": 1})
        steps[1203] = steps[1203].model_copy(update={"max_abs_logit_diff": 1e-6})
        kept = [step.step for step in judge(figures_of(by_step=tuple(steps))).by_step]
        assert len(kept) < 410
        assert {0, 1001, 1203, 1999} <= set(kept)
        assert sorted(kept) == kept


class TestAReference:
    def test_puts_a_sound_cache_as_far_away_as_its_baseline(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama").to(torch.bfloat16)
        pair = Pair(model, CachedLoop)
        _, path = common_path(pair, pair.tokens(0), None, None)
        baseline, cached = reference_distances(
            pair, widened(model, torch.float32, torch.device("cpu")), [0, 1], 0, path, UNINTERRUPTED
        )
        assert ("float32", "cpu", NEW_TOKENS, 0) == (baseline.dtype, baseline.device, baseline.steps, baseline.arm)
        assert baseline.max_rel_logit_diff is not None
        assert cached.max_rel_logit_diff is not None
        assert 0 < baseline.max_rel_logit_diff < 0.1
        assert 1 / 3 < cached.max_rel_logit_diff / baseline.max_rel_logit_diff < 3

    def test_of_the_same_values_is_the_model_itself(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("gemma2", sliding_window=4)
        pair = Pair(model, CachedLoop)
        _, path = common_path(pair, pair.tokens(0), None, None)
        same = widened(model, torch.float32, torch.device("cpu"))
        (baseline,) = reference_distances(pair, same, [0], 0, path, UNINTERRUPTED)
        assert baseline.max_rel_logit_diff is not None
        assert baseline.max_rel_logit_diff < 1e-6
        assert 0 == baseline.argmax_flips

    def test_leaves_the_model_as_it_was_and_ties_what_is_tied(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama", tie_word_embeddings=True).to(torch.bfloat16)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        wide = widened(model, torch.float64, torch.device("cpu"))
        assert {torch.float64} == {weight.dtype for weight in wide.parameters()}
        assert wide.lm_head.weight is wide.model.embed_tokens.weight
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert (torch.bfloat16, torch.float64) == (model.dtype, wide.config.dtype)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def figures_of(**changes: Any) -> AgreementFigures:
    """A comparison in float32 whose logits differ by 1e-7 where rounding alone does 2e-7."""
    whole = AgreementFigures(1, 16, 1e-6, 1e-7, 1e-12, 0, 2e-6, 2e-7, None, None, None)
    return replace(whole, **changes)


class TestTheVerdict:
    def test_allows_five_times_the_noise_and_never_less_than_the_type_can_tell(self) -> None:
        assert 5 * 2e-7 == tolerance(2e-7, "float32")
        assert 5 * 2.0**-23 == tolerance(0.0, "float32")
        assert 5 * 2.0**-7 == tolerance(0.0, "bfloat16")
        assert float(torch.finfo(torch.float32).eps) == RESOLUTION["float32"]
        assert float(torch.finfo(torch.bfloat16).eps) == RESOLUTION["bfloat16"]
        assert float(torch.finfo(torch.float16).eps) == RESOLUTION["float16"]

    def test_is_not_excused_by_a_baseline_that_differs_from_itself_by_more_than_rounding(self) -> None:
        assert "MISMATCH" == judge(figures_of(noise_rel=0.5, max_rel_logit_diff=0.01)).verdict

    def test_tells_which_order_of_summing_made_the_noise(self) -> None:
        ways = (
            NoiseWay(way="twice the rows", noise_rel=1e-7),
            NoiseWay(way="eager attention", noise_rel=None, skipped="no such kernel"),
            NoiseWay(way="sums from the other end", noise_rel=2e-7),
        )
        judged = judge(figures_of(noise_ways=ways))
        assert "rounding alone 2.0e-07 (the largest of 2 other orders of summing: sums from the other end)" in (
            judged.detail
        )
        assert [("twice the rows", 1e-7, ""), ("eager attention", None, "no such kernel")] == [
            (way.way, way.noise_rel, way.skipped) for way in judged.noise_ways[:2]
        ]

    def test_is_none_where_rounding_could_not_be_measured(self) -> None:
        ways = (NoiseWay(way="twice the rows", noise_rel=None, skipped="out of memory"),)
        judged = judge(figures_of(noise_abs=None, noise_rel=None, noise_ways=ways))
        assert judged.verdict is None
        assert "could not be measured (twice the rows: out of memory)" in judged.detail

    def test_of_free_runs_that_part_at_a_near_tie_is_rounding(self) -> None:
        judged = judge(
            figures_of(first_divergence=5, divergence_sequence=2, top2_margin=1.5e-6, top2_margin_rel=1.5e-7)
        )
        assert "EQUAL_WITHIN_ROUNDING" == judged.verdict
        assert (
            "free runs part at new token 5 of prompt 3 where the two best logits are 1.5e-06 apart: a near-tie"
            in judged.detail
        )

    def test_of_free_runs_that_part_where_rounding_cannot_part_them_is_a_mismatch(self) -> None:
        parted = figures_of(first_divergence=5, divergence_sequence=0, top2_margin=1.0, top2_margin_rel=0.1)
        judged = judge(parted)
        assert "MISMATCH" == judged.verdict
        assert "a free run computed something else than the common path does" in judged.detail
        for chosen in ({"sampled": True}, {"penalised": True}):
            assert "EQUAL_WITHIN_ROUNDING" == judge(replace(parted, **chosen)).verdict


class TestThePath:
    def test_goes_to_the_first_divergence_though_another_sequence_ended_before(
        self, tiny_model: Callable[..., Any]
    ) -> None:
        pair = Pair(tiny_model("llama"), CachedLoop)
        baseline, candidate = [[9, 9], [7, 7, 7, 7, 7, 3]], [[9, 9], [7, 7, 7, 7, 7, 4]]
        figures = compare(pair, 1, baseline, candidate, 2)
        assert (6, 5, 1) == (figures.steps, figures.first_divergence, figures.divergence_sequence)
        assert figures.by_step[5].top2_margin is not None
        assert figures.top2_margin is not None
        assert figures.top2_margin >= figures.by_step[5].top2_margin

    def test_is_in_the_batch_that_diverges(self, tiny_model: Callable[..., Any]) -> None:
        pair = Pair(tiny_model("llama"), CachedLoop)
        pair.batches = (pair.batches[0], make_batch(1, [[8, 9, 10]], NEW_TOKENS, torch.device("cpu")))
        pair.batch_members = ((0, 1), (2,))
        tokens = [[5] * 4, [6] * 4, [7, 8, 7, 8]]
        number, path = common_path(pair, tokens, Divergence(1, 2), FEW_STEPS)
        assert (1, [[7, 8, 7, 8]]) == (number, path.tolist())
        figures = compare(pair, 1, tokens, [*tokens[:2], [7, 9, 7, 8]], 1)
        assert (2, 1, 2) == (figures.steps, figures.first_divergence, figures.divergence_sequence)
        assert figures.top2_margin == figures.by_step[1].top2_margin
