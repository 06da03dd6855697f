import pytest

from kvbench.report.charts.limit_charts import roofline, step_time

from .chart_records import LOOKS, changed, hollow, traces, under_a_roof
from .records import two_arms


def test_a_step_on_a_device_is_split_into_computing_and_waiting():
    known = {"launch_s": 0.00242, "device_busy_s": 0.001, "floor_s": 0.0004}
    record = changed(two_arms(), **{f"arms__0__limit__{name}": value for name, value in known.items()})
    chart = step_time(record, LOOKS)
    computing, waiting = traces(chart, type="bar", y=[0])
    assert pytest.approx([1.0]) == computing["x"]
    assert pytest.approx([2.42]) == waiting["x"]
    assert "/" == waiting["marker"]["pattern"]["shape"]
    assert ("nocache", "3.42 ms [3.39, 3.45], 70.8 % waiting for the host", "400 µs") == chart.numbers.rows[0][:3]
    assert [0.4] == next(each["x"] for each in hollow(chart) if each["marker"]["symbol"] == "line-ns-open")


def test_a_step_on_the_host_is_split_into_submitting_and_computing():
    record = changed(two_arms(), arms__1__limit__launch_s=0.00025)
    assert "1.00 ms [0.99, 1.01], 25.0 % dispatching operations" == step_time(record, LOOKS).numbers.rows[1][1]


def test_a_step_whose_making_is_not_known_is_one_bar():
    chart = step_time(two_arms(), LOOKS)
    assert [[3.42], [1.0]] == [each["x"] for each in traces(chart, type="bar")]
    assert "Hatched" not in chart.caption


def test_the_roofline_puts_every_pass_at_its_intensity_and_rate():
    chart = roofline(under_a_roof(), LOOKS)
    roof, recompute, _, step, _, prefill, _ = chart.figure["data"]
    assert [500.0] == recompute["x"]
    assert pytest.approx(20e9 / 0.00342 / 1e12, rel=1e-4) == recompute["y"][0]
    assert ([2.0], [0.1]) == (step["x"], step["y"])
    assert pytest.approx(20e9 / 0.0125 / 1e12, rel=1e-4) == prefill["y"][0]
    assert [prefill] == hollow(chart)
    assert [100.0, 10.0] == [roof["x"][1], roof["y"][1]]
    assert pytest.approx(roof["x"][0] * 1e11 / 1e12, rel=1e-4) == roof["y"][0]
    assert ("cached (dynamic)", "step", "2", "0.1 TFLOP/s", "50.0 %") in chart.numbers.rows


def test_a_roofline_without_a_roof_says_so_and_one_without_work_is_left_out():
    record = changed(under_a_roof(), ceilings=None, null_reasons={"/arms/0/limit/floor_s": "doctor --ceilings"})
    assert "how close this is to the hardware limit (doctor --ceilings)." in roofline(record, LOOKS).caption
    assert roofline(two_arms(), LOOKS) is None
