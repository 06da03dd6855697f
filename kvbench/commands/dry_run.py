"""`--dry-run`: the points of a sweep, what each would need, and which would be skipped. Nothing is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvbench.commands.validation import SweepPoint
from kvbench.config.schema import Config
from kvbench.errors import BadInput
from kvbench.forecast import Forecast, Past, forecast, in_all, past_runs
from kvbench.plan import make_plan
from kvbench.point import Finished, open_runner
from kvbench.report.sentences import own_words, say
from kvbench.text import printable

GIB = 2**30
MINUTE_S, HOUR_S = 60, 3600


def dry_run(points: Sequence[SweepPoint], jobs: int | None) -> int:
    """Print what measuring these points would take; `jobs` of a launcher share them. Always 0."""
    first = next(point.config for point in points if isinstance(point.config, Config))
    results = Path(first.results_dir)
    past = past_runs(results)
    runner = open_runner(first)
    finished = Finished(results, runner)
    shared = set(points[0].overrides).intersection(*(point.overrides for point in points[1:])) if points[1:] else set()
    table = _table()
    wanted: list[Forecast] = []
    skipped = refused = 0
    notes: dict[str, None] = {}
    try:
        for number, point in enumerate(points, start=1):
            own = " ".join(each for each in point.overrides if each not in shared)
            if isinstance(point.config, Config) and finished.run_of(point.config) is not None:
                skipped += 1
                table.add_row(str(number), Text(printable(own)), "", "", say("dry.skipped"))
                continue
            needs = _needs(point, past)
            if isinstance(needs, BadInput):
                refused += 1
                table.add_row(str(number), Text(printable(own)), "", "", say("dry.refused"))
                notes[own_words(str(needs))] = None
                continue
            wanted.append(needs)
            table.add_row(str(number), Text(printable(own)), _memory(needs.bytes), _time(needs.seconds), "")
            notes[say("dry.memory", basis=needs.bytes_basis)] = None
            notes[say("dry.time", basis=needs.seconds_basis)] = None
    finally:
        runner.close()
    console = Console(highlight=False)
    console.print(table)
    for note in notes:
        console.print(Text(printable(note)), soft_wrap=True)
    seconds, unknown, most = in_all(wanted)
    counts = {"points": len(points), "measured": len(wanted), "skipped": skipped, "refused": refused}
    console.print(Text(say("dry.counts", **counts)), soft_wrap=True)
    if len(wanted) > unknown:
        console.print(Text(say("dry.in-all", time=_time(seconds), memory=_memory(most))), soft_wrap=True)
        if jobs is not None and jobs > 1:
            console.print(
                Text(say("dry.jobs", jobs=jobs, time=_time((seconds[0] / jobs, seconds[1] / jobs)))), soft_wrap=True
            )
    if unknown:
        console.print(Text(say("dry.unknown", count=unknown)), soft_wrap=True)
    return 0


def _needs(point: SweepPoint, past: Sequence[Past]) -> Forecast | BadInput:
    if point.refusal is not None:
        return point.refusal
    assert isinstance(point.config, Config)
    try:
        return forecast(make_plan(point.config), past)
    except BadInput as error:
        return error


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column(say("dry.point"), overflow="fold")
    table.add_column(say("dry.head-memory"), justify="right", no_wrap=True)
    table.add_column(say("dry.head-time"), justify="right", no_wrap=True)
    table.add_column("")
    return table


def _memory(size: int | None) -> str:
    return "?" if size is None else f"{size / GIB:,.2f} GiB"


def _time(seconds: tuple[float, float] | None) -> str:
    if seconds is None:
        return "?"
    least, most = map(_duration, seconds)
    return least if least == most else f"{least} – {most}"


def _duration(seconds: float) -> str:
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < HOUR_S:
        return f"{seconds / MINUTE_S:.1f} min"
    return f"{seconds / HOUR_S:.1f} h"
