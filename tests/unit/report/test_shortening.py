"""Different names stay different, however little room there is for them."""

import pytest

from kvbench.report.charts.figures import looks, shortened

ARM = "cached (static, {}, flash, cache of 4096 tokens, its habits: all_logits and grad)"


@pytest.mark.parametrize("most", [24, 44])
@pytest.mark.parametrize(
    "names",
    [
        ["nocache", "cached (dynamic)"],
        [ARM.format("compiled"), ARM.format("graph")],
        [
            ARM.format(f"compiled {a}, padded to {b:05d} tokens, then {c}")
            for a in "xyz"
            for b in range(9)
            for c in "pq"
        ],
        [f"{'a' * 60}{middle}{'b' * 60}{end}{'c' * 60}" for middle in "12" for end in "34"],
        ["a" * 60, "a" * 61, "a" * 62],
    ],
)
def test_different_names_stay_different_within_the_room(names, most):
    short = shortened(names, most)
    assert len(set(names)) == len(set(short))
    assert max(map(len, short)) <= most


def test_what_differs_in_the_middle_stays():
    both = [f"cached (static of 4096 tokens, {engine}, flash, all_logits and grad)" for engine in ("compiled", "graph")]
    first, second = shortened(both, 44)
    assert first.startswith("cached (stat")
    assert "compiled" in first
    assert "graph" in second


def test_a_name_that_has_room_is_left_alone():
    assert shortened(["cached (dynamic)", ARM.format("graph")], 44)[0] == "cached (dynamic)"


def test_no_two_of_thirty_arms_share_a_look_or_two_parts_of_one():
    modes = ["cached", "nocache", "generate", "nocache_naive", "generate_nocache"]
    given = list(looks([*modes, *(f"cached (kind {number})" for number in range(37))]).values())
    assert len(given) == 42
    for one, other in (("colour", "dash"), ("colour", "marker"), ("dash", "marker")):
        assert len({(getattr(look, one), getattr(look, other)) for look in given}) == 42
