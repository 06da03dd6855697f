"""The HTML report: one file for one run or thousands, which opens offline and loads nothing."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import kvbench
from kvbench.errors import RecordError
from kvbench.printable import printable
from kvbench.records.step_table import lane_rows
from kvbench.records.store import RECORD, StoredRun, read_blocks, read_record, read_steps, replace_file
from kvbench.report.changes import HEAD as CHANGES_HEAD
from kvbench.report.changes import Changes, Sides
from kvbench.report.charts.choice import overview_charts, run_charts
from kvbench.report.charts.figures import Chart
from kvbench.report.charts.palette import Look, looks
from kvbench.report.charts.series import StepSeries, step_series
from kvbench.report.names import run_labels
from kvbench.report.overview import Summary, overview_sentences, summary
from kvbench.report.page.scripts import content_policy, scripts
from kvbench.report.page.sections import Section, section
from kvbench.report.page.selection import MOST_SECTIONS, selected
from kvbench.report.page.table import overview_table
from kvbench.report.redaction import NOTE, redacted_run, redacted_text

if TYPE_CHECKING:
    import pyarrow

# JSON inside a script element must not end it, open a comment, or break a line of JavaScript.
SCRIPT_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def build(
    runs: Iterable[StoredRun],
    output: Path,
    notes: Iterable[str] = (),
    *,
    redact: bool = False,
    folders: Sequence[Path] = (),
) -> None:
    """Write the report of `runs` to `output`, in one step.

    Runs are let go one by one, so that thousands may come from a generator; `notes` are lines for the top, such as
    runs left out, and are read after the runs. The first of several `folders` is compared with each other one.
    `redact` leaves out host names, user names and paths.

    Raises `RecordError` when the file cannot be written.
    """
    page = _Page(output, redact, Sides(folders))
    with _no_collector():
        for run in runs:
            page.add(run)
        content = page.render([*notes])
    replace_file(output, content.encode())


@contextmanager
def _no_collector() -> Iterator[None]:
    """Records hold no cycles, and looking for some among those of thousands of runs takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass
class _Page:
    """A page while it is put together."""

    output: Path
    redact: bool
    sides: Sides
    _summaries: list[Summary] = field(default_factory=list)
    _whole: dict[Path, StoredRun] = field(default_factory=dict)
    _unusable: list[str] = field(default_factory=list)

    def add(self, run: StoredRun) -> None:
        self._summaries.append(summary(self._shared(run)))
        self.sides.add(run)
        if len(self._summaries) <= MOST_SECTIONS:
            self._whole[run.folder] = run
        else:
            self._whole.clear()  # not all can stay: those that get a section are read again

    def render(self, notes: Sequence[str]) -> str:
        runs = self._summaries
        runs.sort(key=lambda run: (run.created_at, run.run_id))
        labels = run_labels([run.aspects for run in runs])
        names = looks(name for run in runs for name, _ in run.rates)
        chosen = selected(runs)
        whole = [(number, run) for number in chosen.runs if (run := self._read(runs[number])) is not None]
        sections = [self._section(run, number, labels[number], names, of=len(whole)) for number, run in whole]
        anchors = {number: each.anchor for (number, _), each in zip(whole, sections, strict=True)}
        overview = overview_charts(runs, names) if len(runs) > 1 else ()
        table = overview_table(runs, labels, anchors, [self._place(run) for run in runs])
        said = [NOTE] if self.redact else []
        said += [redacted_text(note) if self.redact else note for note in (*notes, *self._unusable)]
        ours = scripts()
        return (
            _environment()
            .get_template("report.html.j2")
            .render(
                title=_title(runs),
                sentences=overview_sentences(runs),
                changes=self._changes(),
                changes_head=CHANGES_HEAD,
                count=len(runs),
                sections=sections,
                left_out=chosen.note,
                overview=overview,
                table=table,
                notes=said,
                figures=_script_json(_figures(sections, overview)),
                rows=_script_json(table.data if len(runs) > 1 else {}),
                scripts=ours,
                policy=content_policy(ours),
                version=kvbench.__version__,
                built_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            )
        )

    def _changes(self) -> tuple[Changes, ...]:
        found = self.sides.changes()
        return tuple(replace(each, sentence=redacted_text(each.sentence)) for each in found) if self.redact else found

    def _shared(self, run: StoredRun) -> StoredRun:
        return redacted_run(run) if self.redact else run

    def _read(self, chosen: Summary) -> StoredRun | None:
        known = self._whole.get(chosen.folder)
        if known is not None:
            return self._shared(known)
        try:
            return self._shared(StoredRun(read_record(chosen.folder / RECORD), chosen.folder))
        except RecordError as error:  # gone since it was counted
            self._unusable.append(str(error))
            return None

    def _section(self, run: StoredRun, number: int, label: str, names: Mapping[str, Look], *, of: int) -> Section:
        table = self._step_table(run)
        charts = run_charts(run.record, _steps(run, table), names, read_blocks(run.folder))
        return section(run, number + 1, label, charts, table, of=of)

    def _step_table(self, run: StoredRun) -> pyarrow.Table | None:
        """The per-step table; a broken one costs the run its charts of steps and its heat maps, not the report."""
        try:
            return read_steps(run.folder)
        except RecordError as error:
            self._unusable.append(str(error))
            return None

    def _place(self, run: Summary) -> str:
        """Where a run lies, seen from the page; where that is not to be told, its id."""
        return run.run_id if self.redact else printable(os.path.relpath(run.folder, self.output.parent))


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("kvbench.report.page"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Every string on the page is made harmless to read before it is escaped; markup of our own stays."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _steps(run: StoredRun, table: pyarrow.Table | None) -> tuple[StepSeries, ...]:
    return () if table is None else step_series(lane_rows(table, "steps"), len(run.record.arms))


def _title(runs: Sequence[Summary]) -> str:
    names = dict.fromkeys(run.aspects.name for run in runs)
    return f"kvbench: {', '.join(names)}" if len(names) <= 3 else f"kvbench: {len(runs):,} runs"


def _figures(sections: Sequence[Section], overview: Sequence[Chart]) -> dict[str, Any]:
    """Every figure by the id of its place on the page."""
    drawn = [("overview", chart) for chart in overview]
    drawn += [(each.anchor, chart) for each in sections for chart in each.charts]
    return {f"{place}-{chart.key}": chart.figure for place, chart in drawn if chart.figure is not None}


def _script_json(value: Any) -> Markup:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(SCRIPT_ESCAPES))  # noqa: S704 - escaped for where it stands
