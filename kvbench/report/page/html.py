"""The HTML report: one file for one run or thousands, which opens offline and loads nothing."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

import kvbench
from kvbench.errors import RecordError
from kvbench.language import spoken
from kvbench.options import RELEVANT_ACROSS_RUNS
from kvbench.records.store import (
    RECORD,
    STEPS,
    Hearer,
    StoredRun,
    Unreadable,
    nobody,
    read_blocks,
    read_record,
    read_steps,
    replace_file,
)
from kvbench.report.changes import Changes, Sides
from kvbench.report.charts.choice import change_charts, overview_charts, run_charts
from kvbench.report.charts.figures import ON_DARK, Chart, Look, looks
from kvbench.report.charts.plotly_js import bundle
from kvbench.report.charts.series import step_series
from kvbench.report.names import run_labels
from kvbench.report.overview import Summary, overview_sentences, summary
from kvbench.report.page.rendering import environment
from kvbench.report.page.sections import Section, section
from kvbench.report.page.table import overview_table, short_names
from kvbench.report.page.texts import prompt_texts
from kvbench.report.redaction import redacted_run, redacted_text
from kvbench.report.sentences import in_scripts, listed, say
from kvbench.text import printable

if TYPE_CHECKING:
    import pyarrow


# The scripts of a page, and the policy that lets a browser run these and load nothing.


OURS = ("charts.js", "clipboard.js", "table.js", "confidence.js", "page.js")


def scripts() -> tuple[Markup, ...]:
    """Plotly's own code, then ours in the order in which one builds on the other."""
    templates = files("kvbench.report.page") / "templates"
    ours = [(templates / name).read_text(encoding="utf-8") for name in OURS]
    return tuple(Markup(each) for each in (bundle(), *ours))  # noqa: S704 - code, not a string of a run's


def content_policy(allowed: Sequence[str]) -> str:
    """Scripts by their digest alone, no eval, nothing loaded from or sent to anywhere.

    Styles may be inline: plotly writes style attributes and rules, which a digest cannot cover.
    """
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in allowed)
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; connect-src 'none';"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


# Which runs of a page get a section of their own when there are more than anyone opens.


MOST_SECTIONS = 50  # a section weighs about 100 KiB
MOST_OF_A_KIND = 4


@dataclass(frozen=True)
class Selection:
    """Positions of the runs that are drawn; `note` says which those are, empty when they are all."""

    runs: tuple[int, ...]
    note: str


def selected(runs: Sequence[Summary]) -> Selection:
    """All of them up to `MOST_SECTIONS`; else those at the ends of the speed-ups, and the first that are not VALID."""
    if len(runs) <= MOST_SECTIONS:
        return Selection(tuple(range(len(runs))), "")
    known = sorted((best, number) for number, run in enumerate(runs) if (best := run.best) is not None and run.valid)
    slowest, fastest = known[:MOST_OF_A_KIND], known[-MOST_OF_A_KIND:]
    not_valid = [number for number, run in enumerate(runs) if not run.valid][:MOST_OF_A_KIND]
    alone = [number for number, run in enumerate(runs) if run.valid and run.best is None][:MOST_OF_A_KIND]
    chosen = sorted({number for _, number in (*slowest, *fastest)} | set(not_valid) | set(alone))
    return Selection(
        tuple(chosen),
        say("page.selected", chosen=len(chosen), count=f"{len(runs):,}", most=MOST_OF_A_KIND),
    )


# The page.


# JSON inside a script element must not end it, open a comment, or break a line of JavaScript.
SCRIPT_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def build(
    runs: Iterable[StoredRun],
    output: Path,
    notes: Iterable[str] = (),
    *,
    redact: bool = False,
    folders: Sequence[Path] = (),
    relevance: float = RELEVANT_ACROSS_RUNS,
    any_revision: bool = False,
    tell: Hearer = nobody,
) -> None:
    """Write the report of `runs` to `output`, in one step.

    Runs are let go one by one, so that thousands may come from a generator; `notes` are lines for the top, such as
    runs left out, and are read after the runs. The first of several `folders` is compared with each other one, as
    `compare` does with this `relevance` and `any_revision`.
    `redact` leaves out host names, user names and paths. `tell` hears of files beside the records that do not fit.

    Raises `RecordError` when the file cannot be written.
    """
    page = _Page(output, redact, Sides(folders, relevance, any_revision), tell)
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
    tell: Hearer
    _summaries: list[Summary] = field(default_factory=list)
    _whole: dict[Path, StoredRun] = field(default_factory=dict)
    _unusable: list[str] = field(default_factory=list)

    def add(self, run: StoredRun) -> None:
        self._summaries.append(summary(self._shared(run), "" if self.redact else self.sides.name_of(run)))
        self.sides.add(run)
        if len(self._summaries) <= MOST_SECTIONS:
            self._whole[run.folder] = run
        else:
            self._whole.clear()  # not all can stay: those that get a section are read again

    def render(self, notes: Sequence[str]) -> str:
        runs = self._summaries
        runs.sort(key=lambda run: (run.created_at, run.run_id))
        labels = _labels(runs)
        names = looks(name for run in runs for name, _ in run.rates)
        chosen = selected(runs)
        whole = [(number, run) for number in chosen.runs if (run := self._read(runs[number])) is not None]
        sections = [self._section(run, number, labels[number], names, of=len(whole)) for number, run in whole]
        anchors = {number: each.anchor for (number, _), each in zip(whole, sections, strict=True)}
        overview = overview_charts(runs, labels, names) if len(runs) > 1 else ()
        table = overview_table(runs, short_names(runs), anchors, [self._place(run) for run in runs])
        changes = self._changes()
        changed = list(zip(changes, change_charts(changes), strict=True))
        said = [say("page.redacted")] if self.redact else []
        said += [redacted_text(note) if self.redact else note for note in (*notes, *self._unusable)]
        ours = scripts()
        return (
            environment()
            .get_template("report.html.j2")
            .render(
                title=f"kvbench: {heading}" if (heading := _heading(runs, changes)) else "kvbench",
                heading=heading,
                sentences=overview_sentences(runs),
                changed=changed,
                count=len(runs),
                sections=sections,
                left_out=chosen.note,
                overview=overview,
                table=table,
                notes=said,
                figures=_script_json(_figures(sections, [*overview, *(chart for _, chart in changed if chart)])),
                rows=_script_json(table.data if len(runs) > 1 else {}),
                on_dark=_script_json(ON_DARK),
                words=_script_json(in_scripts()),
                language=spoken(),
                scripts=ours,
                policy=content_policy(ours),
                version=kvbench.__version__,
                built_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            )
        )

    def _changes(self) -> tuple[Changes, ...]:
        found = self.sides.changes()
        return tuple(map(_redacted, found)) if self.redact else found

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
        steps = step_series(table, len(run.record.arms))
        charts = run_charts(run.record, steps, names, read_blocks(run.folder, self._leave_out))
        prompts = prompt_texts(run, self._leave_out)
        return section(run, number + 1, label, charts, table, prompts, of=of)

    def _leave_out(self, file: Unreadable) -> None:
        """A file that does not fit costs its run what is drawn from it, and is named."""
        self._unusable.append(str(file))
        self.tell(file)

    def _step_table(self, run: StoredRun) -> pyarrow.Table | None:
        """The per-step table; a broken one costs the run its charts of steps and its heat maps, not the report."""
        try:
            return read_steps(run.folder)
        except RecordError as error:
            self._leave_out(Unreadable.of(run.folder / STEPS, error))
            return None

    def _place(self, run: Summary) -> str:
        """Where a run lies, seen from the page; where that is not to be told, its id."""
        return run.run_id if self.redact else printable(os.path.relpath(run.folder, self.output.parent))


def _labels(runs: Sequence[Summary]) -> list[str]:
    """The number of each run as the table has it, the folder that it lies in, and what sets it apart."""
    labels = []
    told = run_labels([run.aspects for run in runs])
    for number, (run, label) in enumerate(zip(runs, told, strict=True), start=1):
        apart = label.removesuffix(say("label.run", number=number)).removesuffix(
            " · "
        )  # the number stands there already
        labels.append(f"#{number} {' · '.join(filter(None, (run.side, apart)))}".strip())
    return labels


def _heading(runs: Sequence[Summary], changes: Sequence[Changes]) -> str:
    """What the runs were called together, else the folders that are compared, else what there is of what."""
    titles = {run.title for run in runs}
    if len(titles) == 1 and "" not in titles:
        return titles.pop()
    if len(changes) == 1 and changes[0].rows:
        return changes[0].title
    names = list(dict.fromkeys(run.aspects.name for run in runs))
    count = f"{len(runs):,}"
    if len(runs) == 1:
        return names[0]
    return (
        say("title.runs", count=count, names=listed(names)) if len(names) <= 3 else say("title.many-runs", count=count)
    )


def _redacted(changes: Changes) -> Changes:
    rows = tuple(replace(row, reason=redacted_text(row.reason)) for row in changes.rows)
    return replace(
        changes,
        base=redacted_text(changes.base),
        new=redacted_text(changes.new),
        sentence=redacted_text(changes.sentence),
        rows=rows,
    )


def _figures(sections: Sequence[Section], overview: Sequence[Chart]) -> dict[str, Any]:
    """Every figure by the id of its place on the page."""
    drawn = [("overview", chart) for chart in overview]
    drawn += [(each.anchor, chart) for each in sections for chart in each.all_charts]
    return {f"{place}-{chart.key}": chart.figure for place, chart in drawn if chart.figure is not None}


def _script_json(value: Any) -> Markup:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(SCRIPT_ESCAPES))  # noqa: S704 - escaped for where it stands
