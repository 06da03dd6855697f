"""What changed between the folders that a report is over: the first one against each other one, as `compare` judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvbench.analysis.regression import LEAST_PROCESSES, GateRow, gate, kind_of
from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_name
from kvbench.text import UNKNOWN, format_interval, format_value, printable

HEAD = ("run", "prompt", "new", "batch", "arm", "before", "after", "after ÷ before", "processes", "verdict")
FEW = "too few runs for a verdict"
ORDER = ("SLOWER", "AMBIGUOUS", "not comparable", FEW, "FASTER", "SAME")  # what a reader must not miss comes first
HEAVY_OF_RUN = {"memory_timeline": (), "phases": (), "shapes": None, "growth": None, "references": (), "audits": ()}
HEAVY_OF_ARM = {"memory_by_context": (), "tokens": (), "texts": (), "turns": ()}


@dataclass(frozen=True)
class Changes:
    """One folder against the first: a sentence for the first screen, and a row per arm of the kinds that both hold."""

    sentence: str
    rows: tuple[tuple[str, ...], ...]


@dataclass
class Sides:
    """The runs of each folder while a report reads them, without what weighs."""

    folders: Sequence[Path]
    _runs: dict[Path, list[RunRecord]] = field(default_factory=dict)

    def add(self, run: StoredRun) -> None:
        """Keep a run with the first of the folders that it lies in."""
        if len(self.folders) > 1:
            folder = next((each for each in self.folders if run.folder.is_relative_to(each)), None)
            if folder is not None:
                self._runs.setdefault(folder, []).append(_light(run.record))

    def changes(self) -> tuple[Changes, ...]:
        """One entry for each folder after the first; none for a single one."""
        first, *others = [folder for folder in self.folders if folder in self._runs] or [Path()]
        return tuple(self._changes(first, each) for each in others)

    def _changes(self, first: Path, other: Path) -> Changes:
        before, after = self._runs[first], self._runs[other]
        shared = set(map(kind_of, before)) & set(map(kind_of, after))
        old, new = ([run for run in side if kind_of(run) in shared] for side in (before, after))
        names = f"{_name(other, first)} against {_name(first, other)}"
        if not shared:
            return Changes(f"{names}: no run of the one is of the same kind as a run of the other.", ())
        rows = gate(old, new)
        alone = len(before) + len(after) - len(old) - len(new)
        rest = f" {alone:,} run{'' if alone == 1 else 's'} without a counterpart." if alone else ""
        return Changes(f"{names}: {_summary(rows)}.{rest}", tuple(map(_cells, rows)))


def _light(record: RunRecord) -> RunRecord:
    """What the verdict takes of a run: thousands of them are kept at once."""
    arms = tuple(arm.model_copy(update=HEAVY_OF_ARM) for arm in record.arms)
    return record.model_copy(update={**HEAVY_OF_RUN, "arms": arms})


def _name(folder: Path, other: Path) -> str:
    """The folder's own name, or its path where both have the same."""
    return printable(str(folder) if folder.resolve().name == other.resolve().name else folder.resolve().name)


def _summary(rows: Sequence[GateRow]) -> str:
    """Each verdict with its arms' ratios, and the least and the largest where they are many."""
    counts = Counter(_verdict(row) for row in rows)
    return "; ".join(f"{word}: {_of(word, rows, counts[word])}" for word in ORDER if counts[word])


def _of(word: str, rows: Sequence[GateRow], count: int) -> str:
    chosen = sorted((row for row in rows if _verdict(row) == word), key=lambda row: _ratio(row) or 0.0)
    if count <= 2:
        return ", ".join(f"{_arm(row)} {_told(row)}" for row in chosen)
    return f"in {count} rows, {_told(chosen[0])} to {_told(chosen[-1])}"


def _verdict(row: GateRow) -> str:
    """The word of the row; too few processes are no ambiguity but no verdict yet."""
    if row.verdict == "INVALID":
        return "not comparable"
    few = min(row.base_processes, row.new_processes) < LEAST_PROCESSES
    return FEW if few else row.verdict


def _ratio(row: GateRow) -> float | None:
    return row.new_rate / row.base_rate if row.new_rate and row.base_rate else None


def _told(row: GateRow) -> str:
    if row.ratio is None:
        return format_value(_ratio(row), "times")
    return format_interval(row.ratio.value, row.ratio.low, row.ratio.high, "times")


def _arm(row: GateRow) -> str:
    return "all arms" if row.arm is None else arm_names(row.example.arms)[row.arm]


def _cells(row: GateRow) -> tuple[str, ...]:
    verdict = _verdict(row)
    return (
        run_name(row.example),
        prompt_tokens(row.example),
        new_tokens(row.example),
        batch_size(row.example),
        _arm(row),
        *(format_value(rate, "tokens/s") for rate in (row.base_rate, row.new_rate)),
        _told(row),
        UNKNOWN if row.arm is None else f"{row.base_processes}, {row.new_processes}",
        f"{verdict}: {row.reason}" if row.reason else verdict,
    )
