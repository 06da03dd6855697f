"""A pass that submits something else than its mode promises is counted."""

from __future__ import annotations

from kvbench.decoding.protocol import Pass
from kvbench.passes import CheckedProposals, prove, together
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


# A pass over the newest token and four proposed ones, of which three, none, and all are accepted.
CHECKING = [Pass(9, 0, 9), Pass(5, 8, 13), Pass(5, 9, 14)]
MADE = (4, 1, 5)
ROUNDS = [
    [Pass(5, 0, 5), Pass(1, 5, 6), Pass(1, 6, 7), Pass(1, 7, 8)],
    [Pass(2, 7, 9), Pass(1, 9, 10), Pass(1, 10, 11), Pass(1, 11, 12)],
    [Pass(2, 8, 10), Pass(1, 10, 11), Pass(1, 11, 12), Pass(1, 12, 13)],
]


class TestPassesThatCheckProposedTokens:
    def test_pass_where_what_was_rejected_is_taken_out_again(self) -> None:
        seen = CheckedProposals(CHECKING, MADE, ROUNDS, held=14)
        assert seen.proof(5, 4) == Proof(15, 0)
        assert seen.proposed(5) == (4, 4, 4)

    def test_that_leave_a_rejected_token_in_the_cache_are_found(self) -> None:
        stale = [CHECKING[0], Pass(5, 9, 14), CHECKING[2]]
        proof = CheckedProposals(stale, MADE).proof(5, 4)
        assert (1, "pass 1: submitted 5, past 9 -> 14, made 1, where a past of 8 tokens belongs") == (
            proof.violations,
            proof.first_violation,
        )

    def test_that_submit_all_again_or_propose_too_many_or_make_too_many_are_found(self) -> None:
        assert 1 == CheckedProposals([*CHECKING[:2], Pass(14, 0, 14)], MADE).proof(5, 4).violations
        assert 3 == CheckedProposals(CHECKING, MADE).proof(5, 3).violations
        assert 1 == CheckedProposals(CHECKING, (4, 1, 6)).proof(5, 4).violations

    def test_end_with_a_cache_of_all_but_the_newest_token(self) -> None:
        proof = CheckedProposals(CHECKING, MADE, held=15).proof(5, 4)
        assert (1, "the cache holds 15 tokens at the end, where 14 belong") == (proof.violations, proof.first_violation)

    def test_whose_draft_reads_everything_again_are_found(self) -> None:
        again = [ROUNDS[0], [Pass(9, 0, 9), *ROUNDS[1][1:]], ROUNDS[2]]
        proof = CheckedProposals(CHECKING, MADE, again).proof(5, 4)
        assert (1, True) == (proof.violations, "the draft did not propose" in (proof.first_violation or ""))

    def test_that_nobody_counted_are_found(self) -> None:
        assert 2 == CheckedProposals(CHECKING, MADE[:2]).proof(5, 4).violations  # a pass without tokens, and the count
