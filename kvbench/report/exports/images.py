"""Every chart of the runs as a picture, for a README: SVG or PNG, drawn by a browser on this machine, offline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kvbench.errors import BadInput, RecordError
from kvbench.installation import install_hint
from kvbench.records.store import (
    STEPS,
    Hearer,
    StoredRun,
    Unreadable,
    nobody,
    read_blocks,
    read_steps,
    replace_file,
)
from kvbench.report.charts.choice import overview_charts, run_charts
from kvbench.report.charts.figures import DARK, ON_DARK, THEMES, Chart, Theme, looks
from kvbench.report.charts.plotly_js import BUNDLE
from kvbench.report.charts.series import step_series
from kvbench.report.exports.formats import escaped
from kvbench.report.names import run_labels, run_name
from kvbench.report.overview import summary

if TYPE_CHECKING:
    import pyarrow

Format = Literal["svg", "png"]
WIDTH_PX = 760  # of a README's column
TITLE_PX = 34
SHARP = 2  # pixels of a PNG for one of the page
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
TITLE_FONT = {"font": {"size": 13}}
INDEX = "charts.md"
NO_BROWSER = (
    "pictures are drawn by Chrome or Chromium, and none was found: install one (apt install chromium), or set"
    " BROWSER_PATH to its program"
)


@dataclass(frozen=True)
class Picture:
    """One chart with a figure, and its file below the folder of all pictures."""

    place: str  # of the run's own folder; empty for the charts over all runs
    heading: str
    chart: Chart

    def name(self, theme: str, format: Format) -> str:
        """The file's name, the same for the same chart of every run."""
        return f"{self.place}{self.chart.key}{'' if theme == 'light' else f'-{theme}'}.{format}"


def write_images(
    runs: Sequence[StoredRun],
    folder: Path,
    format: Format,
    theme: str,
    told: Callable[[Path], None],
    tell: Hearer = nobody,
) -> None:
    """Write every chart of the runs into `folder`, an index with captions last; `told` hears of each file.

    One run's charts lie in the folder itself; of several, the charts over all of them do, and those of run n in
    `run-n`. Raises `BadInput` where the extra or a browser is missing, `RecordError` where a file cannot be written.
    """
    if find_spec("kaleido") is None:
        raise BadInput(f"pictures need the optional extra images: {install_hint('images')}")
    pictures = list(_pictures(runs, tell))
    asyncio.run(_draw(pictures, folder, format, theme, told))
    told(_written(folder / INDEX, _index(pictures, theme, format).encode()))


def themed(chart: Chart, theme: Theme) -> dict[str, Any]:
    """The chart's figure with its title, in the colours that the page would give it."""
    figure = chart.figure or {}
    layout = figure["layout"]
    lines = {"gridcolor": theme.line, "linecolor": theme.line, "zerolinecolor": theme.line, "tickcolor": theme.line}
    axes = {name: layout[name] for name in layout if name.startswith(("xaxis", "yaxis"))}
    margin = layout["margin"]
    return {
        "data": [
            (on_dark(trace) if theme is DARK else trace)
            | {name: trace[name] | {"color": theme.text} for name in ("error_x", "error_y") if name in trace}
            for trace in figure["data"]
        ],
        "layout": layout
        | {
            "paper_bgcolor": theme.page,
            "plot_bgcolor": theme.page,
            "font": {"family": FONT, "size": 13, "color": theme.text},
            "title": {
                "text": f"<b>{escape(chart.title)}</b>",
                "x": 0,
                "xanchor": "left",
                "y": 1,
                "yanchor": "top",
                "pad": {"l": 14, "t": 12},
                "font": {"size": 16},
            },
            "margin": margin | {"t": margin["t"] + TITLE_PX},
            "width": WIDTH_PX,
            "height": chart.height_px + TITLE_PX,
        }
        | {
            name: {"automargin": True, **lines, **own, "title": {"standoff": 10, **own.get("title", {}), **TITLE_FONT}}
            for name, own in axes.items()
        },
    }


COLOURED = ("line", "marker", "pattern", "color", "fgcolor")


def on_dark(value: Any) -> Any:
    """A trace with its colours as the page has them in its dark theme."""
    if isinstance(value, dict):
        return value | {name: on_dark(value[name]) for name in COLOURED if name in value}
    if isinstance(value, list):
        return [ON_DARK.get(each, each) if isinstance(each, str) else each for each in value]
    return ON_DARK.get(value, value) if isinstance(value, str) else value


def _pictures(runs: Sequence[StoredRun], tell: Hearer = nobody) -> Iterator[Picture]:
    every = [summary(run) for run in runs]
    labels = run_labels([each.aspects for each in every])
    names = looks(name for each in every for name, _ in each.rates)
    if len(runs) > 1:
        yield from (
            Picture("", f"{len(runs)} runs", chart) for chart in overview_charts(every, labels, names) if chart.figure
        )
    for number, (run, said) in enumerate(zip(runs, labels, strict=True), start=1):
        steps = step_series(_steps(run, tell), len(run.record.arms))
        heading, place = (said, f"run-{number}/") if len(runs) > 1 else (run_name(run.record), "")
        for chart in run_charts(run.record, steps, names, read_blocks(run.folder, tell)):
            if chart.figure:
                yield Picture(place, heading, chart)


def _steps(run: StoredRun, tell: Hearer) -> pyarrow.Table | None:
    try:
        return read_steps(run.folder)
    except RecordError as error:
        tell(Unreadable.of(run.folder / STEPS, error))
        return None


async def _draw(
    pictures: Sequence[Picture], folder: Path, format: Format, theme: str, told: Callable[[Path], None]
) -> None:
    """In a browser that has the package's own plotly.js, and nothing from a network: no MathJax."""
    from kaleido import Kaleido
    from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError

    try:
        async with Kaleido(plotlyjs=BUNDLE, mathjax=False) as browser:
            for picture in pictures:
                figure = themed(picture.chart, THEMES[theme])
                size = {"width": figure["layout"]["width"], "height": figure["layout"]["height"]}
                options = {"format": format, "scale": SHARP if format == "png" else 1, **size}
                content = await browser.calc_fig(figure, opts=options)
                told(_written(folder / picture.name(theme, format), content))
    except ChromeNotFoundError as error:
        raise BadInput(NO_BROWSER) from error
    except (BrowserFailedError, BrowserClosedError) as error:
        raise BadInput(f"the browser that draws pictures ended before it had drawn them; {NO_BROWSER}") from error


def _written(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{path.parent}: cannot create ({error.strerror})") from error
    replace_file(path, content)
    return path


def _index(pictures: Sequence[Picture], theme: str, format: Format) -> str:
    """Markdown of all pictures with their captions, to take lines from."""
    lines, last = [], None
    for picture in pictures:
        if picture.heading != last:
            lines.append(f"# {escaped(picture.heading)}")
            last = picture.heading
        caption = escaped(picture.chart.caption)
        numbers = picture.chart.numbers
        lines.append(f"![{escaped(picture.chart.title)}]({picture.name(theme, format)})")
        lines.append(caption)
        if numbers is not None:
            rows = [tuple(map(escaped, row)) for row in (numbers.head, *numbers.rows)]
            rows.insert(1, ("---",) * len(numbers.head))
            lines.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(lines) + "\n"
