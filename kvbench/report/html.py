"""The HTML report: one file for one run or many, which opens offline and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import kvbench
from kvbench.errors import RecordError
from kvbench.printable import printable
from kvbench.records.schema import RunRecord
from kvbench.records.steps import lane_rows
from kvbench.records.store import StoredRun, read_blocks, read_steps, replace_file
from kvbench.report.arms import arm_names
from kvbench.report.charts import overview_charts, run_charts
from kvbench.report.figures import Chart
from kvbench.report.formatting import format_estimate
from kvbench.report.names import run_labels, run_name
from kvbench.report.palette import looks
from kvbench.report.sections import Section, section
from kvbench.report.series import StepSeries, step_series
from kvbench.report.verdicts import pairs

if TYPE_CHECKING:
    import pyarrow

# JSON inside a script element must not end it, open a comment, or break a line of JavaScript.
SCRIPT_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def build(runs: Sequence[StoredRun], output: Path, notes: Sequence[str] = ()) -> None:
    """Write the report of `runs` to `output`, in one step. `notes` are lines for the top, such as runs left out.

    Raises `RecordError` when the file cannot be written.
    """
    records = [run.record for run in runs]
    names = looks(name for record in records for name in arm_names(record))
    unusable: list[str] = []
    sections = []
    for number, (run, label) in enumerate(zip(runs, run_labels(records), strict=True), start=1):
        table = _step_table(run, unusable)
        charts = run_charts(run.record, _steps(run, table), names, read_blocks(run.folder))
        sections.append(section(run, number, label, charts, table, of=len(runs)))
    overview = overview_charts(records, names) if len(records) > 1 else ()
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=_title(records),
            lead=_lead(records),
            sections=sections,
            overview=overview,
            notes=[*notes, *unusable],
            figures=_script_json(_figures(sections, overview)),
            plotly_js=Markup(get_plotlyjs()),  # noqa: S704 - plotly's own code, not a string of the run's
            version=kvbench.__version__,
            built_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )
    replace_file(output, page.encode())


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("kvbench.report"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Every string on the page is made harmless to read before it is escaped; markup of our own stays."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _step_table(run: StoredRun, unusable: list[str]) -> pyarrow.Table | None:
    """The per-step table; a broken one costs the run its charts of steps and its heat maps, not the report."""
    try:
        return read_steps(run.folder)
    except RecordError as error:
        unusable.append(str(error))
        return None


def _steps(run: StoredRun, table: pyarrow.Table | None) -> tuple[StepSeries, ...]:
    return () if table is None else step_series(lane_rows(table, "steps"), len(run.record.arms))


def _title(records: Sequence[RunRecord]) -> str:
    names = dict.fromkeys(run_name(record) for record in records)
    return f"kvbench: {', '.join(names)}" if len(names) <= 3 else f"kvbench: {len(records)} runs"


def _lead(records: Sequence[RunRecord]) -> str:
    """The verdict over many runs, in a sentence or two."""
    valid = sum(record.valid for record in records)
    said = f"{valid} of {len(records)} runs are VALID."
    speedups = [
        comparison.speedup
        for record in records
        for comparison, pair in zip(record.comparisons, pairs(record), strict=True)
        if pair.not_a_result is None and comparison.speedup.value is not None
    ]
    if not speedups:
        return said
    ordered = sorted(speedups, key=lambda ratio: ratio.value or 0.0)
    if len(ordered) == 1:
        return f"{said} The speed-up is {format_estimate(ordered[0], 'times')}."
    least, most = (format_estimate(ratio, "times") for ratio in (ordered[0], ordered[-1]))
    return f"{said} Speed-ups lie between {least} and {most}."


def _figures(sections: Sequence[Section], overview: Sequence[Chart]) -> dict[str, Any]:
    """Every figure by the id of its place on the page."""
    drawn = [("overview", chart) for chart in overview]
    drawn += [(each.anchor, chart) for each in sections for chart in each.charts]
    return {f"{place}-{chart.key}": chart.figure for place, chart in drawn if chart.figure is not None}


def _script_json(value: Any) -> Markup:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(SCRIPT_ESCAPES))  # noqa: S704 - escaped for where it stands
