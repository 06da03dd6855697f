import pytest

from kvbench.report.charts.memory_charts import memory_parts, memory_stack

from .chart_records import RECONCILIATION, changed
from .records import MEBIBYTE, two_arms


def test_the_parts_of_memory_add_up_to_what_the_device_had_in_use():
    record = changed(two_arms(), arms__1__memory__reconciliation=RECONCILIATION)
    chart = memory_stack(record)
    assert pytest.approx(1000) == sum(each["x"][0] for each in chart.figure["data"])
    assert [[1]] * 8 == [each["y"] for each in chart.figure["data"]]
    assert 1000 * MEBIBYTE == sum(memory_parts(record.arms[1].memory).values())
    assert "relative" == chart.figure["layout"]["barmode"]
    (row,) = chart.numbers.rows
    said = dict(zip(chart.numbers.head, row, strict=True))
    assert ("1,000 MiB", "500 MiB", "20.0 MiB") == tuple(said[name] for name in ("together", "weights", "KV cache"))
    assert "-10.0 MiB" == said["unexplained"]


def test_on_the_host_the_cache_stands_beside_the_weights_and_python_is_told_but_not_drawn():
    parts = memory_parts(two_arms().arms[1].memory)
    assert {"weights": 8 * MEBIBYTE, "KV cache": 89600} == parts
    chart = memory_stack(two_arms())
    assert ["weights", "KV cache"] == [each["name"] for each in chart.figure["data"]]
    assert "takes another 692 MiB, which is not drawn" in chart.caption


def test_memory_that_is_not_known_is_no_stack():
    record = changed(
        two_arms(), arms__0__memory__process_rss_bytes=None, arms__1__memory__device_used_bytes=5 * MEBIBYTE
    )
    assert memory_stack(record) is None
