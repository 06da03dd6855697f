import pytest

from kvbench.report.charts.length_charts import cumulative_by_law, latency_by_law, total_s
from kvbench.report.lengths import growth_sentences, law_s

from .chart_records import BREAK_EVEN, LOOKS, changed, grown, law, traces


def test_a_law_is_evaluated_term_by_term():
    square = grown().growth.laws[0].model_copy(update={"per_token2_s": grown().growth.laws[0].per_token_s})
    assert pytest.approx(1e-3 + 5e-6 * 10 + 5e-6 * 100) == law_s(square, 10.0)
    assert pytest.approx(sum(law_s(square, length) for length in (65, 66, 67))) == total_s(square, 64, 4)


def test_a_maximum_adds_up_as_it_is_and_not_as_a_sum():
    # It was once added up as launch + a·L: recompute then lost from the first step on.
    record = grown()
    laws = [law(0, 4e-3, 5e-6), law(1, 4e-3, 1e-7, order="linear")]
    laws[0]["form"] = "max"
    record = changed(record, growth__laws=laws)
    assert pytest.approx(4e-3) == law_s(record.growth.laws[0], 800.0)
    assert pytest.approx(5e-3) == law_s(record.growth.laws[0], 1000.0)
    caption = cumulative_by_law(record, record.growth, LOOKS).caption
    contexts = [64 + step for step in range(1, 4096)]
    ahead, lead = None, 0.0
    for token, context in enumerate(contexts, start=2):
        lead += max(4e-3, 5e-6 * context) - (4e-3 + 1e-7 * context)
        ahead = None if lead <= 0 else ahead or token
    assert f"cached (dynamic) has taken less time than nocache from new token {ahead:,} on." in caption
    # From 4 ms at 64 tokens to 10.24 ms at 2,048.
    gained = (10.24e-3 - 4e-3) / (2048 - 64) * 1e3
    assert f"where nocache gains {gained * 1e3:.2f} ms" in " ".join(growth_sentences(record))


def test_a_law_is_a_line_through_the_points_measured_with_a_real_decode_on_top():
    record = grown()
    chart = latency_by_law(record, record.growth, LOOKS)
    (line,) = traces(chart, legendgroup="0", mode="lines")
    assert (64.0, 2048.0) == (line["x"][0], line["x"][-1])
    assert pytest.approx([1.32, 11.24]) == [line["y"][0], line["y"][-1]]
    points = next(each for each in traces(chart, legendgroup="0", mode="markers") if "error_y" in each)
    assert ([64.0, 2048.0], [1.32, 11.24]) == (points["x"], points["y"])
    assert pytest.approx([0.0132, 0.1124]) == points["error_y"]["array"]
    first, second = (each for each in traces(chart, legendgroup="0", mode="markers") if "error_y" not in each)
    assert ([65, 66, 67], [2.0, 2.0, 2.0], "square-open") == (first["x"], first["y"], first["marker"]["symbol"])
    assert [1.3, 1.3, 1.4] == second["y"]


def test_the_break_even_length_is_shaded_over_its_interval():
    record = grown()
    chart = latency_by_law(record, record.growth, LOOKS)
    shade, upright, no_change = chart.figure["layout"]["shapes"]
    assert ("y2", 1) == (no_change["yref"], no_change["y0"])
    assert (580.0, 630.0, 600.0) == (shade["x0"], shade["x1"], upright["x0"])
    assert ["break-even 600"] == [each["text"] for each in chart.figure["layout"]["annotations"]]


def test_the_speed_up_at_every_length_stands_below_as_the_ratio_of_the_laws():
    record = grown()
    without, cached = (law_s(each, 64.0) for each in record.growth.laws)
    (ratio,) = traces(latency_by_law(record, record.growth, LOOKS), yaxis="y2")
    assert pytest.approx(without / cached, rel=1e-4) == ratio["y"][0]


def test_an_open_end_of_the_break_even_is_shaded_to_the_end_of_what_was_measured():
    record = grown(break_evens=[BREAK_EVEN | {"ci_low": None, "ci_high": None}])
    shade = latency_by_law(record, record.growth, LOOKS).figure["layout"]["shapes"][0]
    assert (64.0, 2048.0) == (shade["x0"], shade["x1"])


def test_a_break_even_that_was_not_found_is_said_and_not_drawn():
    record = grown(break_evens=[BREAK_EVEN | {"context_length": None, "detail": "not within the range measured"}])
    chart = latency_by_law(record, record.growth, LOOKS)
    assert ["y2"] == [shape["yref"] for shape in chart.figure["layout"]["shapes"]]
    assert "not within the range measured" in chart.caption


def test_totals_by_the_laws_tell_from_which_token_on_a_whole_generation_gains():
    record = grown()
    chart = cumulative_by_law(record, record.growth, LOOKS)
    measured, beyond = (each for each in traces(chart, legendgroup="0", mode="markers"))
    assert ([16], [0.0204], [4096], [47.2]) == (measured["x"], measured["y"], beyond["x"], beyond["y"])
    assert "square-open" == beyond["marker"]["symbol"]
    # By hand: sum of 5e-6 (64 + i) - 3e-3 over i = 1 … n - 1 passes 0 with the step at context 64 + 1072 = 1,136.
    spent = 0.0
    for step in range(1, 4096):
        spent += 5e-6 * (64 + step) - 3e-3
        if spent > 0:
            break
    assert f"less time than nocache from new token {step + 1:,} on" in chart.caption
