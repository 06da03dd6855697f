import math

import pytest

from kvbench.report.charts.comparison_charts import agreement

from .chart_records import LOOKS, agreeing
from .records import two_arms


def test_differences_by_step_stand_beside_the_noise_and_what_is_allowed():
    chart = agreement(agreeing([1e-3, 4e-3, 2e-3], flips=[1], first_divergence=2), LOOKS)
    line, flipped = chart.figure["data"]
    assert ([0, 1, 2], [1e-3, 4e-3, 2e-3]) == (line["x"], line["y"])
    assert ([1], [4e-3]) == (flipped["x"], flipped["y"])
    (row,) = chart.numbers.rows
    allowed, noise, divergence = chart.figure["layout"]["shapes"]
    assert (1e-2, 2e-3, 2) == (allowed["y0"], noise["y0"], divergence["x0"])
    assert pytest.approx([-2, math.log10(2e-3)]) == [each["y"] for each in chart.figure["layout"]["annotations"]][:2]
    assert ("0.004", "1", "0 of 3 steps", "0.002", "0.01", "1 steps", "new token 2") == row[2:]


def test_exact_zeros_have_a_line_of_their_own_below_everything_else():
    chart = agreement(agreeing([0.0, 4e-3, 0.0]), LOOKS)
    (line,) = chart.figure["data"]
    axis = chart.figure["layout"]["yaxis"]
    assert "0" == axis["ticktext"][0]
    assert [axis["tickvals"][0]] * 2 == [line["y"][0], line["y"][2]]
    assert axis["tickvals"][0] < 2e-3 / 5
    assert "2 of 3 steps" == chart.numbers.rows[0][4]


def test_arms_that_compute_the_same_bits_are_said_to():
    chart = agreement(agreeing([0.0, 0.0], verdict="IDENTICAL", noise_rel=0.0, allowed_rel=5e-6), LOOKS)
    assert ("same output", "0", "0", "2 of 2 steps") == chart.numbers.rows[0][1:5]
    assert ["0", "0"] == chart.figure["data"][0]["customdata"]


def test_a_record_without_differences_by_step_has_no_such_chart():
    assert agreement(two_arms(), LOOKS) is None
