"""The judge catches what a broken cache changes and accuses no sound one: a handful of what `judge.py` tries."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from judge import fault_rows, is_caught, outcome, sound_case, sound_rows

pytestmark = pytest.mark.slow

# Model, type and workload, with faults of every way in: each larger than rounding by far, and each somewhere else.
BROKEN = {
    ("llama", "float32", "plain"): [
        ("six old values 0.01 % too large", "later batch"),
        ("an undeclared float16 copy of both", "step 1"),
        ("attention's scale 0.01 % off", "everywhere"),
        ("the newest token not yet written (stale), last layer", "padded rows"),
    ],
    ("gpt2", "bfloat16", "plain"): [
        ("the oldest token's keys and values zeroed, last layer", "later batch"),
        ("the newest token not yet written (stale), last layer", "multiples of 64"),
        ("padding left visible", "padded rows"),
    ],
    ("mistral", "bfloat16", "plain"): [("the window one token short", "window's edge")],
    ("own-matmul", "float32", "plain"): [("past values 0.01 % too large", "everywhere")],
    ("qwen3_next", "bfloat16", "plain"): [("recurrent state rolled by one", "everywhere")],
}


@pytest.mark.parametrize("run", BROKEN, ids=" ".join)
def test_a_fault_larger_than_rounding_is_told_wherever_it_is(run: tuple[str, str, str]) -> None:
    rows = fault_rows(*run, BROKEN[run], seed=0)
    assert len(BROKEN[run]) == len(rows)
    assert all(row["size"] > 3 and row["acted"] for row in rows)
    assert [] == [(row["fault"], row["place"], row["full"]["detail"]) for row in rows if outcome(row) == "missed"]


# Of each type some, among them padded batches, a mixture of experts, and products of one's own.
SOUND = (1, 9, 23, 37, 40, 41, 64, 78, 80, 82, 105, 118)


@pytest.mark.parametrize("number", SOUND)
def test_a_sound_arm_is_not_accused(number: int) -> None:
    rows = [row for row in sound_rows(number, seed=0, ratios=False, checks="few,full") if "few" in row]
    assert rows, sound_case(number, 0)
    accused = [(row["arm"], row[check]["detail"]) for row in rows for check in ("few", "full") if is_caught(row[check])]
    assert [] == accused
