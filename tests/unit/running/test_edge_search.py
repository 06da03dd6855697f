"""The search brackets any edge within its resolution, from any start, in few tries."""

from __future__ import annotations

import random

import pytest

from kvbench.running.frontier import MOST_TRIES, EdgeSearch


def tried(search: EdgeSearch, edge: int) -> list[int]:
    """The sizes that a search tries when all up to `edge` fit."""
    sizes = []
    while (size := search.next_size()) is not None:
        sizes.append(size)
        search.tell(size, fits=size <= edge)
    return sizes


@pytest.mark.parametrize("resolution", [0.0, 0.01, 0.05, 0.5, 1.0])
def test_any_edge_is_bracketed_within_the_resolution(resolution: float) -> None:
    dice = random.Random(11)
    for _ in range(500):
        edge = int(10 ** dice.uniform(0.5, 6))
        search = EdgeSearch(int(10 ** dice.uniform(0, 6)), 3, None, resolution)
        sizes = tried(search, edge)
        assert search.closed
        assert search.found is not None
        assert search.above is not None
        assert search.found <= edge < search.above
        assert search.above - search.found <= max(1, resolution * search.found)
        assert len(sizes) == len(set(sizes)) == search.tries < MOST_TRIES


@pytest.mark.parametrize("edge", [1, 2, 3])
def test_edges_of_a_few_are_found_from_far_away(edge: int) -> None:
    # A batch of 1 between 1 and 3 was tried again until no try was left.
    for start in range(1, 300):
        search = EdgeSearch(start, 1, None, 0.02)
        sizes = tried(search, edge)
        assert (True, edge, edge + 1) == (search.closed, search.found, search.above)
        assert len(sizes) == len(set(sizes))


def test_a_good_prediction_costs_two_tries() -> None:
    # 100,000 predicted and true: 2.5 % below it fits, one stride of 5 % further does not.
    assert [97_500, 102_375] == tried(EdgeSearch(97_500, 3, None, 0.05), 100_000)


def test_strides_grow_away_from_a_bad_prediction() -> None:
    search = EdgeSearch(1000, 1, None, 0.05)
    assert [1000, 1050, 1155, 1386, 1940, 3492, 9079] == tried(search, 5000)[:7]
    assert (True, 4961, 5095) == (search.closed, search.found, search.above)


def test_a_limit_ends_it_without_a_failure() -> None:
    search = EdgeSearch(3000, 1, 2048, 0.05)
    assert [2048] == tried(search, 10**9)
    assert (True, 2048, None) == (search.closed, search.found, search.above)


def test_nothing_fits_ends_at_the_least_size() -> None:
    search = EdgeSearch(40, 3, None, 0.05)
    assert 3 == tried(search, 2)[-1]
    assert (True, None, 3) == (search.closed, search.found, search.above)


def test_it_gives_up_where_there_is_neither_edge_nor_limit() -> None:
    search = EdgeSearch(1, 1, None, 0.05)
    assert MOST_TRIES == len(tried(search, 10**60))
    assert not search.closed
