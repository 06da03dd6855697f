"""A pass that submits something else than its mode promises is counted."""

from __future__ import annotations

from kvbench.decoding.protocol import Pass
from kvbench.passes import prove, together
from kvbench.records.untimed import Proof

RECOMPUTE = [Pass(5, None, None), Pass(6, None, None), Pass(7, None, None)]
CACHED = [Pass(5, 0, 5), Pass(1, 5, 6), Pass(1, 6, 7)]


def test_true_runs_pass() -> None:
    assert prove(RECOMPUTE, 5, keeps_past=False) == Proof(3, 0)
    assert prove(CACHED, 5, keeps_past=True) == Proof(3, 0)


def test_a_recompute_loop_that_keeps_a_past_is_found() -> None:
    proof = prove(CACHED, 5, keeps_past=False)
    assert (proof.steps_checked, proof.violations) == (3, 3)
    assert proof.first_violation == "pass 0: submitted 5, past 0 -> 5"


def test_a_cache_that_is_silently_dropped_is_found() -> None:
    dropped = [*CACHED[:2], Pass(7, 0, 7)]
    assert prove(dropped, 5, keeps_past=True).violations == 1


def test_a_cache_that_does_not_grow_is_found() -> None:
    stuck = [*CACHED[:2], Pass(1, 6, 6)]
    assert prove(stuck, 5, keeps_past=True).violations == 1


def test_proofs_add_up_and_keep_the_first_violation() -> None:
    assert together([Proof(3, 0), Proof(2, 1, "a"), Proof(4, 2, "b")]) == Proof(9, 3, "a")


def test_a_cache_that_is_never_used_is_said_so() -> None:
    proof = prove([Pass(5, 0, 0), Pass(6, 0, 0), Pass(7, 0, 0)], 5, keeps_past=True)
    assert (3, True) == (proof.violations, (proof.first_violation or "").startswith("Your cached loop submitted all"))


def test_proofs_add_up_what_they_could_not_see() -> None:
    assert together([Proof(1, 0, unseen=("a",)), Proof(1, 0, unseen=("b", "a"))]).unseen == ("a", "b")
