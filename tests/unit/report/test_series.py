import pyarrow
import pytest

from kvbench.report.charts.series import MOST_FAINT_POINTS, MOST_LINE_POINTS, evenly, step_series


def table(rows):
    return pyarrow.Table.from_pylist(
        [{"arm": arm, "context_length": context, "latency_s": latency} for arm, context, latency in rows]
    )


def test_the_line_is_the_median_over_blocks_at_each_context_length():
    (series,) = step_series(table([(0, 11, 3.0), (0, 10, 1.0), (0, 10, 9.0), (0, 10, 2.0), (0, 11, 5.0)]), 2)
    assert series.context_length == [10, 11]
    assert series.median_s == [2.0, 4.0]
    assert series.steps == 5


def test_a_long_run_is_cut_to_what_a_chart_has_pixels_for():
    (series,) = step_series(table([(0, step, 1e-3 * step) for step in range(1, 5001)]), 1)
    assert len(series.context_length) == MOST_LINE_POINTS
    assert (series.context_length[0], series.context_length[-1]) == (1, 5000)
    assert len(series.point_s) == MOST_FAINT_POINTS
    assert series.quantile_s[100] == pytest.approx(2.5, rel=1e-3)


def test_arms_without_steps_have_no_series():
    assert [series.arm for series in step_series(table([(1, 10, 1.0)]), 3)] == [1]


def test_evenly_spaced_places_hold_both_ends():
    assert evenly(3, 5) == [0, 1, 2]
    assert (evenly(1000, 7)[0], evenly(1000, 7)[-1]) == (0, 999)
