"""The chart of what the device's sensors said around the blocks of one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kvbench.report.charts.figures import (
    NEUTRAL,
    WARNING,
    Chart,
    Numbers,
    Trace,
    figure,
    note,
    scaled,
    stacked,
)
from kvbench.report.charts.series import BlockSeries, DevicePoint, evenly
from kvbench.report.sentences import enumerated, joined, say
from kvbench.text import printable

PANEL_HEIGHT_PX = 132
MOST_POINTS = 400
SENSORS = (
    ("sm_clock_mhz", "sensor.clock", "MHz"),
    ("power_w", "sensor.power", "W"),
    ("temperature_c", "sensor.temperature", "°C"),
)

Panel = tuple[str, str, Sequence[tuple[DevicePoint, float]]]  # sensor, unit, readings


def device_timeline(blocks: BlockSeries) -> Chart | None:
    """Clock, power and temperature at both ends of every block, and the blocks in which the clock was held down.

    None where no sensor was read.
    """
    panels = [
        (say(code), unit, known)
        for name, code, unit in SENSORS
        if (known := [(point, getattr(point, name)) for point in blocks.points if getattr(point, name) is not None])
    ]
    if not panels:
        return None
    traces: list[Trace] = []
    layout: dict[str, Any] = {"annotations": []}
    for row, ((sensor, unit, known), domain) in enumerate(zip(panels, stacked(len(panels), 0.12), strict=True)):
        number = "" if row == 0 else str(row + 1)
        kept = evenly(len(known), MOST_POINTS)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [known[index][0].position for index in kept],
                "y": [known[index][1] for index in kept],
                "yaxis": f"y{number}",
                "line": {"color": NEUTRAL, "width": 2},
                "marker": {"color": NEUTRAL, "size": 4},
                "hovertemplate": f"%{{y:.4g}} {unit}<extra></extra>",
            }
        )
        where = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": domain[1], "yanchor": "bottom"}
        layout["annotations"].append(note(sensor, **where))
        # A range of its own says that a clock which stood still did so, and is no noise.
        layout[f"yaxis{number}"] = {"title": {"text": unit}, "domain": domain, "nticks": 4, "range": _range(known)}
    return Chart(
        "device",
        say("chart.device.title"),
        joined(_held_down(blocks), say("chart.device")),
        figure(
            traces,
            xaxis={
                "title": {"text": say("axis.block")},
                "tick0": 0,
                **({"dtick": 1} if blocks.count <= 12 else {}),
                "anchor": "y" if len(panels) == 1 else f"y{len(panels)}",
            },
            showlegend=False,
            shapes=_shades(blocks),
            margin={"l": 64, "r": 16, "t": 24, "b": 52},
            **layout,
        ),
        height_px=64 + PANEL_HEIGHT_PX * len(panels),
        numbers=Numbers(tuple(map(say, ("head.sensor", "head.least", "head.most"))), tuple(map(_ends, panels))),
    )


def _range(known: Sequence[tuple[DevicePoint, float]]) -> list[float]:
    values = [float(value) for _, value in known]
    room = 0.15 * (max(values) - min(values)) or 0.05 * max(values) or 1.0
    return [max(0.0, min(values) - room), max(values) + room]


def _ends(panel: Panel) -> tuple[str, str, str]:
    sensor, unit, known = panel
    low, high = scaled([min(value for _, value in known), max(value for _, value in known)], 1)
    return sensor, f"{low:,.4g} {unit}", f"{high:,.4g} {unit}"


def _held_down(blocks: BlockSeries) -> str:
    said = []
    counts = Counter(cause for causes in blocks.limited.values() for cause in causes)
    if counts:
        causes = enumerated(
            [
                say("device.cause", cause=printable(cause), count=count, of=blocks.count)
                for cause, count in counts.most_common()
            ]
        )
        said.append(say("device.held-down", causes=causes))
    else:
        said.append(say("device.not-held-down"))
    if blocks.throttled:
        indices = enumerated(list(map(str, sorted(blocks.throttled))))
        said.append(say("device.throttled", indices=indices, repeated=len(blocks.repeated)))
    return joined(*said)


def _shades(blocks: BlockSeries) -> list[dict[str, Any]]:
    """One shade per stretch of blocks of one kind: there may be thousands of blocks."""
    kinds: Mapping[int, str] = dict.fromkeys(blocks.limited, NEUTRAL) | dict.fromkeys(blocks.throttled, WARNING)
    stretches: list[tuple[int, int, str]] = []
    for index in sorted(kinds):
        if stretches and stretches[-1][1] == index and stretches[-1][2] == kinds[index]:
            stretches[-1] = (stretches[-1][0], index + 1, kinds[index])
        else:
            stretches.append((index, index + 1, kinds[index]))
    return [
        {
            "type": "rect",
            "x0": begin,
            "x1": end,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"width": 0},
            "fillcolor": colour,
            "opacity": 0.28 if colour == WARNING else 0.15,
            "layer": "below",
        }
        for begin, end, colour in stretches
    ]
