import pytest

from kvbench.report.charts.step_charts import cumulative_time, latency_by_context

from .chart_records import LOOKS, changed, hollow, series
from .records import estimate, two_arms


def test_steps_of_the_first_visit_are_hollow_and_apart():
    record = changed(two_arms(), arms__0__cold__step_s=[[0.005, 0.006]])
    chart = latency_by_context(record, [series(0), series(1)], LOOKS)
    (first,) = hollow(chart)
    assert ([129, 130], [5.0, 6.0]) == (first["x"], first["y"])
    assert [LOOKS["nocache"].colour, "square-open"] == [first["marker"]["color"], first["marker"]["symbol"]]
    assert ("5.50 ms", "3.67×") == chart.numbers.rows[0][3:]
    assert "log" != chart.figure["layout"]["yaxis"].get("type")


def test_first_visits_much_slower_than_warm_steps_make_the_axis_logarithmic():
    record = changed(two_arms(), arms__0__cold__step_s=[[0.075, 0.076]])
    axis = latency_by_context(record, [series(0), series(1)], LOOKS).figure["layout"]["yaxis"]
    assert "log" == axis["type"]
    assert 10 ** axis["range"][1] > 76


def test_time_adds_up_from_the_prompt_on_and_tells_who_is_ahead():
    record = changed(two_arms(), arms__0__ttft_s=estimate(0.001), arms__1__ttft_s=estimate(0.002))
    steps = [series(0, latency=(0.004, 0.004)), series(1, latency=(0.0035, 0.001))]
    chart = cumulative_time(record, steps, LOOKS)
    recompute, cached = chart.figure["data"]
    assert ([1, 2, 3], pytest.approx([1.0, 5.0, 9.0])) == (recompute["x"], recompute["y"])
    assert pytest.approx([2.0, 5.5, 6.5]) == cached["y"]
    assert [("nocache", "9.00 ms"), ("cached (dynamic)", "6.50 ms")] == [row[:2] for row in chart.numbers.rows]
    assert "cached (dynamic) has taken less time than nocache from new token 3 on." in chart.caption


def test_the_first_visit_adds_up_beside_the_warm_one():
    record = changed(two_arms(), arms__1__cold__step_s=[[0.005, 0.006]])
    chart = cumulative_time(record, [series(0), series(1)], LOOKS)
    (first,) = hollow(chart)
    assert ([1, 2, 3], pytest.approx([50.0, 55.0, 61.0])) == (first["x"], first["y"])


def test_prompts_of_several_lengths_and_rebuilt_caches_add_up_to_nothing():
    several = changed(two_arms(), workload__prompt_tokens=[128, 64])
    rebuilt = changed(two_arms(), arms__1__mode="interrupted")
    assert [None, None] == [cumulative_time(each, [series(0), series(1)], LOOKS) for each in (several, rebuilt)]
