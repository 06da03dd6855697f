"""What reaches the inside of a model of one's own is what counts, not what it was handed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from own_models import ALL_AGAIN, nano

from kvbench.decoding.protocol import Pass
from kvbench.decoding.recorder import NO_LENGTH, NOT_A_LENGTH, NOTHING_SEEN, CustomModelProbe
from kvbench.models.own import OwnCausalLM, OwnPast
from kvbench.passes import prove

pytestmark = pytest.mark.versions

PROMPT, STEPS = 5, 3
RECOMPUTED = [Pass(PROMPT + index, None, None) for index in range(STEPS + 1)]
CACHED = [Pass(PROMPT, 0, PROMPT), *(Pass(1, PROMPT + index, PROMPT + index + 1) for index in range(STEPS))]
NOT_USED = (
    "Your cached loop submitted all tokens at every step: the cache is not used (pass 1: submitted 6, past 5 -> 6)"
)


def built(*changes: tuple[str, str]) -> Any:
    space: dict[str, Any] = {}
    exec(nano(*changes), space)
    return space["Nano"](n_layer=2, n_head=2, width=16)


def seen(
    own: Any, *, cached: bool, rows: int = 2, context: Callable[[], Any] = torch.inference_mode
) -> CustomModelProbe:
    """The prompt and three steps, by the loops' own rule of what is handed in."""
    model = OwnCausalLM(own, "own")
    ids = torch.arange(rows * (PROMPT + STEPS)).reshape(rows, -1) % 7
    past: OwnPast | None = model.new_cache(rows) if cached else None
    with context(), CustomModelProbe(model, lambda: None) as recorder:
        for length in range(PROMPT, PROMPT + STEPS + 1):
            start = past.get_seq_length() if past is not None else 0
            model(input_ids=ids[:, start:length], cache=past, use_cache=cached)
    return recorder


class Plain:
    """A model without modules: a table, a matrix, and ids for a cache."""

    def __init__(self, computes: Callable[[torch.Tensor, Any], torch.Tensor]) -> None:
        self.table, self.matrix = torch.randn(7, 4), torch.randn(4, 7)
        self.computes = computes

    def new_cache(self, batch_size: int) -> list[Any]:
        return []

    def __call__(self, ids: torch.Tensor, cache: Any = None) -> torch.Tensor:
        x = torch.nn.functional.embedding(self.computes(ids, cache), self.table)
        return (x @ self.matrix @ self.matrix.T @ self.matrix)[:, -1:]


def as_handed(ids: torch.Tensor, cache: Any) -> torch.Tensor:
    return ids


def all_kept(ids: torch.Tensor, cache: Any) -> torch.Tensor:
    if cache is None:
        return ids
    cache.append(ids)
    return torch.cat(cache, dim=1)


def only_newest(ids: torch.Tensor, cache: Any) -> torch.Tensor:
    return ids[:, -1:]


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("rows", [1, 2])
class TestTheReadmesModel:
    def test_is_seen_to_keep_both_promises(self, rows: int, context: Any) -> None:
        assert RECOMPUTED == seen(built(), cached=False, rows=rows, context=context).passes
        recorder = seen(built(), cached=True, rows=rows, context=context)
        assert (CACHED, ()) == (recorder.passes, recorder.unseen)

    def test_that_runs_all_it_has_kept_is_found_out(self, rows: int, context: Any) -> None:
        passes = seen(built(ALL_AGAIN), cached=True, rows=rows, context=context).passes
        proof = prove(passes, PROMPT, keeps_past=True)
        assert (STEPS, NOT_USED) == (proof.violations, proof.first_violation)


class TestAnObjectThatIsNoModule:
    def test_is_looked_into_all_the_same(self) -> None:
        assert CACHED == seen(Plain(as_handed), cached=True).passes
        proof = prove(seen(Plain(all_kept), cached=True).passes, PROMPT, keeps_past=True)
        assert (STEPS, NOT_USED) == (proof.violations, proof.first_violation)

    def test_whose_cache_tells_no_length_is_said_so(self) -> None:
        assert (NO_LENGTH,) == seen(Plain(as_handed), cached=True).unseen

    def test_that_keeps_a_past_without_being_given_one_is_found_out(self) -> None:
        passes = seen(Plain(only_newest), cached=False).passes
        assert len(RECOMPUTED) == prove(passes, PROMPT, keeps_past=False).violations

    def test_in_which_nothing_is_seen_is_said_so_and_believed(self) -> None:
        recorder = seen(lambda ids: ids[..., None].float(), cached=False)
        assert (RECOMPUTED, (NOTHING_SEEN,)) == (recorder.passes, recorder.unseen)


class TestPartOfTheWork:
    def test_on_all_of_the_past_is_no_cache_unused(self) -> None:
        # One product of three projects everything that was kept, as with a cache of latent states.
        class Latent(Plain):
            def __call__(self, ids: torch.Tensor, cache: Any = None) -> torch.Tensor:
                everything = torch.nn.functional.embedding(all_kept(ids, cache), self.table) + 0
                everything @ self.matrix
                x = self.table[ids]
                return (x @ self.matrix @ self.matrix.T @ self.matrix)[:, -1:]

        assert CACHED == seen(Latent(as_handed), cached=True).passes


class Stated:
    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = iter(lengths)

    @property
    def length(self) -> int:
        return next(self.lengths)


class TestALength:
    @pytest.mark.parametrize(
        ("lengths", "violations", "first"),
        [
            ([0, 0] * 4, 4, "pass 0: submitted 5, past 0 -> 0, where a past of 5 tokens belongs"),
            ([0, 5, 5, 6, 6, 8, 8, 10], 2, "pass 2: submitted 1, past 6 -> 8, where a past of 7 tokens belongs"),
        ],
        ids=["stays", "grows wrongly"],
    )
    def test_that_is_wrong_is_a_violation(self, lengths: list[int], violations: int, first: str) -> None:
        class Liar(Plain):
            def new_cache(self, batch_size: int) -> Any:
                return Stated(lengths)

        proof = prove(seen(Liar(as_handed), cached=True).passes, PROMPT, keeps_past=True)
        assert (violations, first) == (proof.violations, proof.first_violation)

    @pytest.mark.parametrize("told", [[9, 9] * 4, [0, 3, 3, 3, 3, 3, 3, 3]], ids=["capacity", "layers"])
    def test_that_is_a_capacity_or_a_number_of_layers_is_none(self, told: list[int]) -> None:
        """A sound model was INVALID by it: "past 0 → 3, where a past of 40 belongs"."""

        class Layers:
            def __init__(self, numbers: Sequence[int]) -> None:
                self.numbers = iter(numbers)

            def __len__(self) -> int:
                return next(self.numbers)

        kind = Stated if told[0] else Layers

        class Own(Plain):
            def new_cache(self, batch_size: int) -> Any:
                return kind(told)

        recorder = seen(Own(as_handed), cached=True)
        assert (CACHED, (NOT_A_LENGTH,)) == (recorder.passes, recorder.unseen)

    def test_by_the_name_that_transformers_gives_it_goes_before_any_other(self) -> None:
        class Counting(Plain):
            def new_cache(self, batch_size: int) -> Any:
                lengths = iter([0, 5, 5, 6, 6, 8, 8, 10])
                return SimpleNamespace(get_seq_length=lambda: next(lengths), length=512)

        assert 2 == prove(seen(Counting(as_handed), cached=True).passes, PROMPT, keeps_past=True).violations
