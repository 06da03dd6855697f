"""Over many runs: bars without holes, lines between like runs, a trend over commits, names that repeat no column."""

from pathlib import Path

import pytest

from kvbench.arm import arm_names
from kvbench.records.store import StoredRun
from kvbench.report.charts.choice import overview_charts
from kvbench.report.charts.figures import looks
from kvbench.report.names import run_aspects, run_labels
from kvbench.report.overview import summary
from kvbench.report.page.table import overview_table, short_names

from .records import arm, comparison, estimate, invalid, one_arm, two_arms


def charts(*records):
    runs = [summary(StoredRun(record, Path(str(number)))) for number, record in enumerate(records)]
    names = looks(name for record in records for name in arm_names(record.arms))
    labels = run_labels([run_aspects(record) for record in records])
    return {chart.key: chart for chart in overview_charts(runs, labels, names)}


def test_bars_of_runs_with_other_arms_leave_no_room_for_what_is_not_there():
    alone = one_arm(arms=[arm("generate")], run_id="b")
    figure = charts(two_arms(), alone, invalid(), one_arm(run_id="c"))["speed-by-run"].figure
    slots = sorted(slot for trace in figure["data"] for slot in trace["y"])
    assert pytest.approx([0, 1, 2.6, 4.2]) == slots
    assert pytest.approx([0.5, 2.6, 4.2]) == figure["layout"]["yaxis"]["tickvals"]
    assert {0, 1, 3} == {run for trace in figure["data"] for run in trace["meta"]["run"]}


def test_a_line_joins_runs_that_differ_in_their_prompts_alone():
    like = [two_arms(prompt=length, run_id=str(length)) for length in (128, 256)]
    (line,) = charts(*like)["speedup-by-prompt"].figure["data"]
    assert [128, 256] == line["x"]
    other = two_arms(prompt=512, run_id="other", model={"name": "embedded", "dtype": "bfloat16"})
    joined = [trace["x"] for trace in charts(*like, other)["speedup-by-prompt"].figure["data"]]
    assert [[128, 256], [512]] == joined


def test_series_too_many_to_tell_apart_are_points_and_not_lines():
    many = [
        two_arms(prompt=length, run_id=f"{length}-{batch}", workload=workload(length, batch))
        for length in (128, 256)
        for batch in range(1, 10)
    ]
    chart = charts(*many)["speedup-by-prompt"]
    assert {"markers"} == {trace["mode"] for trace in chart.figure["data"]}
    assert "not joined by a line" in chart.caption


def workload(length, batch):
    return {"prompt_tokens": [length], "new_tokens": 48, "batch_size": batch, "prompt_sha256": "p"}


def at_commit(commit, day, rate):
    cached = arm("cached", decode_tokens_per_s=estimate(rate))
    return two_arms(
        run_id=f"{commit}-{day}",
        arms=[arm("nocache"), cached],
        created_at=f"2026-06-0{day}T12:00:00+00:00",
        environment={"git_commit": commit, "device_name": "Some CPU"},
    )


def test_three_commits_make_a_trend_of_geometric_means():
    two = [at_commit("ccc", 2, 900.0), at_commit("aaa", 1, 1000.0), at_commit("aaa", 1, 1210.0)]
    assert "trend" not in charts(*two)
    chart = charts(*two, at_commit("bbb", 3, 800.0))["trend"]
    cached = next(trace for trace in chart.figure["data"] if trace["name"] == "cached (dynamic)")
    assert ["aaa", "ccc", "bbb"] == chart.figure["layout"]["xaxis"]["ticktext"]
    assert [1100.0, 900.0, 800.0] == cached["y"]
    assert pytest.approx([100, 0, 0], rel=1e-3) == cached["error_y"]["arrayminus"]


def test_the_answer_s_columns_come_first_and_no_name_repeats_another_column():
    pair = comparison(verdict="SLOWER")
    records = [two_arms(prompt=128), two_arms(prompt=512, run_id="b", pair=pair)]
    runs = [summary(StoredRun(record, Path(str(number)))) for number, record in enumerate(records)]
    assert ("#1", "#2") == short_names(runs)
    table = overview_table(runs, short_names(runs), {}, ["a", "b"])
    assert ["speed-up", "verdict", "prompt tokens"] == [column["title"] for column in table.data["columns"]][:3]
    assert ("output", "same output, up to rounding") in table.same
