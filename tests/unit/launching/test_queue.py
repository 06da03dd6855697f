"""Which point a job takes next."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kvbench.launching.order import STOP, Journal, Order, Outcome, read_order
from kvbench.launching.queue import MOST_TRIES, Queue


def order(groups: str, lanes: int) -> Order:
    """Points of these groups, a digit each, that so many lanes share."""
    points = tuple((f"point={number}",) for number in range(len(groups)))
    places = ("results", "folder", "conf", "config")
    return Order(points, tuple(map(int, groups)), (tuple(range(len(groups))),), lanes, *places, None, {})


def test_an_its_orderis_read_as_it_was_written(tmp_path: Path) -> None:
    order("0011", 2).write(tmp_path)
    assert order("0011", 2) == read_order(tmp_path)


def test_a_lane_stays_with_its_model_and_lanes_begin_with_different_ones(tmp_path: Path) -> None:
    shared = order("010101", 2)
    with Queue(tmp_path, shared, 0, 0) as first, Queue(tmp_path, shared, 0, 1) as second:
        taken = [(first.take(), second.take()) for _ in range(3)]
        assert [(0, 1), (2, 3), (4, 5)] == taken
        assert first.take() is None


def test_a_lane_without_points_of_its_model_helps_with_another(tmp_path: Path) -> None:
    shared = order("01111", 2)
    with Queue(tmp_path, shared, 0, 0) as first, Queue(tmp_path, shared, 0, 1) as second:
        assert 1 == first.take()  # the group with the most left
        assert 2 == second.take()  # three left for two lanes, and one that nobody is at
        assert [3, 4, 0] == [first.take(), first.take(), first.take()]


def test_every_point_is_taken_once_whoever_asks(tmp_path: Path) -> None:
    shared, taken = order("0" * 60, 6), []

    def work(lane: int) -> None:
        with Queue(tmp_path, shared, 0, lane) as queue:
            while (point := queue.take()) is not None:
                taken.append(point)
                queue.done(Outcome(point, "folder", "ok"))

    lanes = [threading.Thread(target=work, args=(lane,)) for lane in range(6)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    assert list(range(60)) == sorted(taken)


def test_a_point_of_a_lane_that_is_gone_is_taken_again_but_not_for_ever(tmp_path: Path) -> None:
    shared = order("00", 2)
    with Queue(tmp_path, shared, 0, 1) as alive:
        with Queue(tmp_path, shared, 0, 0) as killed:
            assert 0 == killed.take()
            assert 1 == alive.take()
            alive.done(Outcome(1, "folder", "ok"))
            assert alive.take() is None  # the other is at it
        assert 0 == alive.take()
        assert 2 == MOST_TRIES
    with Queue(tmp_path, shared, 0, 2) as late:
        assert late.take() is None


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_lane_that_is_started_again_takes_what_it_had_begun(tmp_path: Path, lanes: int) -> None:
    its_order = order("00", lanes)
    with Queue(tmp_path, its_order, 0, 0) as killed:
        assert 0 == killed.take()
    with Queue(tmp_path, its_order, 0, 0) as again:
        assert [1, 0] == [again.take(), again.take()]


def test_a_sweep_that_is_to_stop_gives_nothing_out(tmp_path: Path) -> None:
    with Queue(tmp_path, order("00", 1), 0, 0) as queue:
        (tmp_path / STOP).touch()
        assert queue.take() is None


@pytest.mark.parametrize("torn", [b'{"kind": "Claim", "poi', b"\xff\n", b'{"kind": "Elephant"}\n', b"[]\n"])
def test_a_torn_line_of_a_journal_harms_no_other(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(tmp_path, 0)
    journal.append(Outcome(0, "folder", "ok"))
    with journal.path.open("ab") as file:
        file.write(torn)
    assert [Outcome(0, "folder", "ok")] == list(journal.news())
