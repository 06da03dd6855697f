import json
import re
from pathlib import Path

import plotly.graph_objects as go
import pytest

from kvbench.arm import arm_names
from kvbench.report.charts.choice import run_charts
from kvbench.report.charts.comparison_charts import speed
from kvbench.report.charts.figures import COLOURS, DARK, LIGHT, NEUTRAL, ON_DARK, label, log_axis, looks, rule, stacked
from kvbench.report.charts.length_charts import frontier

from .chart_records import (
    LOOKS,
    RECONCILIATION,
    agreeing,
    block,
    changed,
    grown,
    reading,
    series,
    under_a_roof,
)
from .records import HOSTILE, arm, failed, hostile, invalid, one_arm, two_arms

STYLE = Path(__file__).parents[3] / "kvbench/report/page/templates/report.css"

EVERY = {
    "two arms": two_arms(),
    "one arm": one_arm(),
    "growth": grown(),
    "roof": under_a_roof(),
    "agreement": agreeing([0.0, 1e-3]),
    "device memory": changed(two_arms(), arms__1__memory__reconciliation=RECONCILIATION),
    "invalid": invalid(),
    "failed": failed(),
    "hostile": hostile(),
}


@pytest.mark.parametrize("record", EVERY.values(), ids=EVERY)
def test_plotly_accepts_every_figure_and_every_chart_says_something(record):
    names = looks(arm_names(record.arms))
    steps = [series(number) for number in range(len(record.arms))]
    blocks = [block(0, before=reading(), after=reading())] if len(record.arms) == 2 else []
    for chart in run_charts(record, steps, names, blocks):
        assert chart.caption.endswith((".", ".)"))
        if chart.figure is not None:
            go.Figure(chart.figure)
            json.dumps(chart.figure, allow_nan=False)


def test_no_name_is_markup_in_a_figure():
    record = hostile()
    charts = run_charts(record, [series(0), series(1)], looks(arm_names(record.arms)), [block(0)])
    drawn = json.dumps([chart.figure for chart in charts])
    assert not re.search(r"<(script|img|/script)", drawn)
    assert label(HOSTILE[0]) == "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;"


def test_an_arm_has_one_colour_in_every_chart():
    record = changed(grown(), arms__1__cold__step_s=[[0.005, 0.006]])
    cached, recompute = LOOKS["cached (dynamic)"].colour, LOOKS["nocache"].colour
    for chart in run_charts(record, [series(0), series(1)], LOOKS, [block(0)]):
        for trace in chart.figure["data"] if chart.figure else ():
            if trace.get("name") in LOOKS:
                colour = trace.get("line", trace.get("marker"))["color"]
                assert (cached if trace["name"].startswith("cached") else recompute) == colour


def test_a_logarithmic_axis_has_whole_numbers_and_few_of_them():
    assert ["1", "2", "5", "10", "20"] == log_axis(0.9, 30)["ticktext"]
    assert len(log_axis(1e-9, 1e9)["tickvals"]) <= 8
    assert [3.2, 4.0] == log_axis(3.2, 4.0)["tickvals"]


def test_panels_fill_the_height_from_the_top():
    (top, bottom) = stacked(2, 0.2)
    assert pytest.approx([0.6, 1.0, 0.0, 0.4]) == [*top, *bottom]


def test_a_rule_lies_across_one_axis():
    assert ("paper", 0, 1, 3.0) == tuple(rule(y=3.0)[name] for name in ("xref", "x0", "x1", "y0"))
    assert ("paper", 0, 1, 3.0) == tuple(rule(x=3.0)[name] for name in ("yref", "y0", "y1", "x0"))


@pytest.mark.parametrize(("theme", "place"), [(LIGHT, 1), (DARK, 2)], ids=["light", "dark"])
def test_pictures_have_the_colours_of_the_page(theme, place):
    style = STYLE.read_text()
    colours = dict.fromkeys(vars(theme))
    for name in colours:
        colours[name] = re.search(rf"--{name}: light-dark\((#\w+), (#\w+)\)", style)[place]
    assert colours == vars(theme)


def brightness(colour):
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_colour_of_an_arm_can_be_seen_on_either_page():
    # WCAG 2.2's contrast of graphical objects; dots and thin lines get more than its 3:1 on a dark page.
    for colour in (*COLOURS, NEUTRAL):
        assert 3 <= (brightness(LIGHT.page) + 0.05) / (brightness(colour) + 0.05)
        assert 7 <= (brightness(ON_DARK[colour]) + 0.05) / (brightness(DARK.page) + 0.05)


def test_arms_of_their_own_keep_their_looks_when_the_row_is_one():
    chart = speed(one_arm(arms=[arm("cached")]), LOOKS)
    assert [LOOKS["cached (dynamic)"].colour] == chart.figure["data"][0]["marker"]["color"]


def test_the_frontier_shows_what_was_found_beside_what_was_predicted():
    common = {"fixed": 1, "tries": [], "detail": "nothing fits"}
    edges = [
        {"arm": 0, "axis": "context", "predicted": 1100, "found": 1000, "found_above": 1008, "error": 0.1, **common},
        {"arm": 1, "axis": "batch", "predicted": 64, "found": None, "found_above": None, "error": None, **common},
    ]
    chart = frontier(changed(two_arms(), frontier={"limit_bytes": None, "edges": edges}), LOOKS)
    sizes = {each["marker"]["symbol"]: each["x"] for each in chart.figure["data"] if each["mode"] == "markers"}
    assert {"x-thin-open": [1008], "square-open": [1100], "square": [1000], "circle-open": [64]} == sizes
    assert (
        ("nocache", "context", "batch 1", "1,000", "1,100", "+10.0 %", ""),
        ("cached (dynamic)", "batch", "1 tokens of context", "—", "64", "—", "nothing fits"),
    ) == chart.numbers.rows
    assert frontier(two_arms(), LOOKS) is None
