import pytest

from kvbench.arm import arm_names
from kvbench.report.charts.comparison_charts import speed, speedup
from kvbench.report.charts.series import block_series

from .chart_records import LOOKS, NO_BLOCKS, block
from .records import invalid, one_arm, two_arms


def test_the_speed_chart_draws_the_records_rates_and_intervals():
    record = two_arms()
    (bars,) = speed(record, LOOKS).figure["data"]
    rates = [each.decode_tokens_per_s for each in record.arms]
    assert [rate.value for rate in rates] == bars["x"]
    assert [rate.ci_high - rate.value for rate in rates] == bars["error_x"]["array"]
    assert [rate.value - rate.ci_low for rate in rates] == bars["error_x"]["arrayminus"]
    assert [LOOKS[name].colour for name in arm_names(record.arms)] == bars["marker"]["color"]


def test_the_speed_up_stands_between_its_blocks_and_the_band_of_no_change():
    found = block_series([block(0), block(1, slow=1.5), block(2)], [(0, 1)])
    chart = speedup(two_arms(), found, LOOKS)
    blocks, headline, end_to_end = chart.figure["data"]
    assert pytest.approx([2.0, 3.0, 2.0]) == blocks["x"]
    assert [3.42] == headline["x"]
    assert pytest.approx([0.05]) == headline["error_x"]["array"]
    assert [2.91] == end_to_end["x"]
    shade = chart.figure["layout"]["shapes"][0]
    assert (1 / 1.01, 1.01) == (shade["x0"], shade["x1"])
    (row,) = chart.numbers.rows
    assert ("cached (dynamic)", "3.42× [3.38, 3.47]", "FASTER", "2.91× [2.88, 2.95]") == (*row[:2], *row[3:])


def test_a_block_that_another_stands_for_has_no_ratio():
    found = block_series([block(0), block(1, slow=9.0), block(2, repeats=1)], [(0, 1)])
    assert pytest.approx([2.0, 2.0]) == found.ratios[0, 1]


def test_a_pair_that_is_not_a_result_is_named_and_not_drawn():
    chart = speedup(invalid(), NO_BLOCKS, LOOKS)
    assert chart.figure is None
    assert "cached (dynamic) is not a result: mode_proof: 3 steps" in chart.caption


def test_one_arm_alone_has_no_chart_of_speed_ups():
    assert speedup(one_arm(), NO_BLOCKS, LOOKS) is None
