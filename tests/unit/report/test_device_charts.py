from kvbench.report.charts.device_charts import device_timeline
from kvbench.report.charts.figures import NEUTRAL, WARNING
from kvbench.report.charts.series import block_series

from .chart_records import block, reading


def test_the_device_is_drawn_at_both_ends_of_every_block_with_what_held_it_down():
    hot = reading(1200, 310.0, 95, ["hw_thermal"])
    found = block_series(
        [
            block(0, before=reading(), after=reading(power=320.0, limits=["power_cap"])),
            block(1, before=reading(), after=hot, throttled=["hw_thermal"]),
            block(2, before=reading(), after=reading(), repeats=1),
        ],
        [],
    )
    chart = device_timeline(found)
    clock, power, temperature = chart.figure["data"]
    assert [0, 1, 1, 2, 2, 3] == clock["x"]
    assert [1980, 1980, 1980, 1200, 1980, 1980] == clock["y"]
    assert (320.0, 95) == (max(power["y"]), max(temperature["y"]))
    shades = [(each["x0"], each["x1"], each["fillcolor"]) for each in chart.figure["layout"]["shapes"]]
    assert [(0, 1, NEUTRAL), (1, 2, WARNING)] == shades
    assert (
        ("SM clock", "1,200 MHz", "1,980 MHz"),
        ("power", "300 W", "320 W"),
        ("temperature", "50 °C", "95 °C"),
    ) == chart.numbers.rows
    assert "hw_thermal in 1 of 3 blocks" in chart.caption
    assert "Throttled (orange), by index: 1; repeated: 1." in chart.caption


def test_no_sensors_no_device_chart():
    assert device_timeline(block_series([block(0)], [])) is None
