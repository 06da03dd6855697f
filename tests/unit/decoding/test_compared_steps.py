"""Which steps are compared: where caches go wrong, and evenly between."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kvbench.decoding.compared_steps import FEW, FEW_IN_ALL, LEAST, Edges, compared_steps


def steps_of(new_tokens: int, prompt: int = 10, edges: Edges | None = None, **named: object) -> tuple[int, ...]:
    contexts = [[prompt + index for index in range(new_tokens)]]
    where = {"batch": 0, "batches": 1} | named
    return compared_steps(new_tokens, contexts, edges or Edges({}, {}), **where)  # type: ignore[arg-type]


def test_of_a_short_run_are_all() -> None:
    assert tuple(range(FEW)) == steps_of(FEW)


def test_of_a_long_run_are_the_first_three_the_last_and_an_even_spread() -> None:
    steps = steps_of(1000)
    assert {0, 1, 2, 999} <= set(steps)
    assert len(steps) <= FEW + 4
    assert max(after - before for before, after in pairwise(steps)) <= 2 * 1000 / FEW


@pytest.mark.parametrize(
    "edges", [Edges({100: "a window"}, {}), Edges({}, {90: "a bucket"})], ids=["a length", "multiples"]
)
def test_lie_before_and_behind_every_edge(edges: Edges) -> None:
    contexts = {10 + step for step in steps_of(200, edges=edges)}
    for edge in (*edges.lengths, *(size * times for size in edges.multiples for times in (1, 2))):
        assert {edge, edge + 1, edge + 2} <= contexts


def test_have_what_is_wanted_in_any_case() -> None:
    assert {77, 501} <= set(steps_of(1000, wanted=(77, 501)))


def test_of_many_batches_share_a_budget_and_differ() -> None:
    of_each = [steps_of(1000, batch=batch, batches=100) for batch in range(100)]
    assert all(LEAST <= len(steps) <= 2 * LEAST for steps in of_each)
    assert len({step for steps in of_each for step in steps}) > FEW_IN_ALL


def test_edges_are_named_where_a_pass_is_the_first_behind_them_and_those_not_reached_are_told() -> None:
    edges = Edges({32: "a window", 4096: "the context"}, {64: "a multiple of 64"})
    assert ["a window", "a window", "", "a multiple of 64"] == [edges.name(context) for context in (32, 33, 34, 129)]
    assert ["the context"] == edges.beyond(200)
