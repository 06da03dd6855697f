"""Every chart is also an SVG that needs no script: well formed, small, and with the places that the figure says."""

import re
from xml.etree import ElementTree

import pytest

from kvbench.arm import arm_names
from kvbench.report.charts.choice import run_charts
from kvbench.report.charts.comparison_charts import speed
from kvbench.report.charts.figures import Chart, figure, looks
from kvbench.report.charts.still import still

from .chart_records import LOOKS, block, reading, series
from .records import two_arms
from .test_charts import EVERY


@pytest.mark.parametrize("record", EVERY.values(), ids=EVERY)
def test_every_chart_of_every_kind_of_record_is_drawn(record):
    names = looks(arm_names(record.arms))
    steps = [series(number) for number in range(len(record.arms))]
    blocks = [block(0, before=reading(), after=reading())] if len(record.arms) == 2 else []
    for chart in run_charts(record, steps, names, blocks):
        if chart.figure is not None:
            drawn = still(chart)
            ElementTree.fromstring(drawn)
            assert "nan" not in drawn
            assert len(drawn) < 20_000


def placed(**own):
    axes = {"xaxis": {"range": [0, 10]}, "yaxis": {"range": [0, 10]}, "legend": {}}
    trace = {"type": "scatter", "mode": "markers", "x": [0, 5, 10], "y": [0, 5, 10], "marker": {"size": 8}}
    return Chart("k", "t", "c", figure([trace | own], **axes), height_px=300)


def places(drawn):
    return [tuple(map(float, each)) for each in re.findall(r"M([\d.]+) ([\d.]+)h0", drawn)]


def test_a_value_lies_where_its_axis_says():
    (low, middle, high) = places(still(placed()))
    assert pytest.approx((low[0] + high[0]) / 2, abs=0.2) == middle[0]
    assert pytest.approx((low[1] + high[1]) / 2, abs=0.2) == middle[1]
    assert low[0] < high[0]
    assert low[1] > high[1]


def test_a_value_that_the_axis_does_not_show_is_not_drawn_elsewhere():
    assert 2 == len(places(still(placed(x=[0, 5, 11]))))


def test_bars_are_as_long_as_their_values_and_whiskers_as_their_intervals():
    record = two_arms()
    drawn = still(speed(record, LOOKS))
    widths = [float(each) for each in re.findall(r'<rect [^>]*width="([\d.]+)"', drawn)]
    rates = [each.decode_tokens_per_s.value for each in record.arms]
    assert pytest.approx(rates[1] / rates[0], rel=0.01) == widths[1] / widths[0]


def test_words_of_a_stranger_are_text():
    attack = "</svg><script>alert(1)</script>&lt;"
    drawn = still(placed(name=attack, mode="lines"))
    assert "<script" not in drawn
