"""What the tests of one session measured, and how it stands against a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvbench.analysis.regression import LEAST_PROCESSES, GateRow, gate, kind_of
from kvbench.arm import arm_names
from kvbench.errors import RecordError
from kvbench.printable import printable
from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun, find_runs
from kvbench.report.exports.formats import gate_markdown, gate_summary


class Regressed(AssertionError):
    """What a test measured is slower than the baseline, or cannot be told not to be; `str()` says what to do."""


@dataclass(frozen=True)
class Baseline:
    """The runs that tests are held against, and the band within which a change counts as none."""

    path: Path
    runs: tuple[RunRecord, ...]
    relevance: float

    @classmethod
    def read(cls, path: Path, relevance: float) -> Baseline:
        """Search a folder for runs. Raises `RecordError` when it is missing, holds none, or holds one unreadable."""
        found = find_runs([path])
        if found.unreadable:
            raise RecordError(str(found.unreadable[0]))
        if not found.runs:
            raise RecordError(f"{path}: no usable run")
        return cls(path, tuple(run.record for run in found.runs), relevance)


@dataclass
class GateSession:
    """Judges each call of a test against the baseline, and keeps the rows for the table at the end."""

    baseline: Baseline
    tests: int = 1  # that measure in this session: each is a chance of a false alarm
    rows: list[GateRow] = field(default_factory=list)

    def judge(self, runs: Sequence[StoredRun]) -> None:
        """Raise `Regressed` unless every arm is known to be no slower than in the baseline."""
        new = [run.record for run in runs]
        keys = {kind_of(record) for record in new}
        known = {kind_of(run) for run in self.baseline.runs}
        # With no counterpart the whole baseline goes in, so that the row can tell what differs.
        base = [run for run in self.baseline.runs if kind_of(run) in keys or not keys & known]
        among = self.tests * len(new[0].arms)
        judged = gate(base, new, self.baseline.relevance, among=among)
        rows = [row for row in judged if kind_of(row.example) in keys]
        self.rows += rows
        refused = [row for row in rows if not row.passes]
        if refused:
            raise Regressed("\n".join(map(self._told, refused)))

    def table(self) -> str:
        """The rows of all tests as Markdown, the verdict over them, and what of the baseline was not measured."""
        missing = {kind_of(run) for run in self.baseline.runs} - {kind_of(row.example) for row in self.rows}
        text = f"{gate_markdown(self.rows)}\n{gate_summary(self.rows, self.baseline.relevance)}\n"
        return text + (f"Not measured in this session: {len(missing)} kind(s) of the baseline.\n" if missing else "")

    def _told(self, row: GateRow) -> str:
        arm = "all arms" if row.arm is None else arm_names(row.example.arms)[row.arm]
        ratio = row.ratio and f" {row.ratio.value:.3f}× [{row.ratio.low:.3f}, {row.ratio.high:.3f}] as fast as before"
        reason = f": {row.reason}" if row.reason else ""
        where = printable(str(self.baseline.path))
        return f"{arm}: {row.verdict}{ratio or ''} against {where}{reason}{_remedy(row)}"


def _remedy(row: GateRow) -> str:
    if row.verdict == "INVALID":
        return "; measure the baseline again on this machine with --kvbench-results, in a new folder"
    if row.verdict == "AMBIGUOUS":
        most = max(row.base_processes, row.new_processes, LEAST_PROCESSES)
        return f"; ask for more with --kvbench-processes (a side had {most} at most), the baseline alike"
    return ""
