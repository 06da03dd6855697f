"""What changed between the folders that a report is over: the first one against each other one, as `compare` judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvbench.analysis.regression import LEAST_PROCESSES, RegressionRow, gate, kind_of
from kvbench.arm import arm_names
from kvbench.options import RELEVANT_ACROSS_RUNS
from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun
from kvbench.report.names import run_aspects, run_labels
from kvbench.report.sentences import counted, enumerated, joined, own_words, percent, say
from kvbench.statistics import Interval
from kvbench.text import UNKNOWN, format_interval, format_value, printable

FEW = "too few runs"
ORDER = ("SLOWER", "INVALID", "AMBIGUOUS", FEW, "FASTER", "SAME")  # what a reader must not miss comes first
MOST_NAMED = 3  # arms in a sentence
HEAVY_OF_RUN = {
    "memory_timeline": (),
    "phases": (),
    "shapes": None,
    "growth": None,
    "references": (),
    "audits": (),
    "rescores": (),
}
HEAVY_OF_ARM = {"memory_by_context": (), "tokens": (), "texts": (), "turns": ()}


@dataclass(frozen=True)
class ChangeRow:
    """One arm of one kind of run on both sides; figures as text with their intervals, the ratio as numbers too."""

    kind: str  # what tells it from the other kinds; empty where there is one
    arm: str
    base: str
    new: str
    ratio: str
    processes: str
    word: str
    reason: str
    interval: tuple[float, float, float] | None


@dataclass(frozen=True)
class Changes:
    """One folder against the first. `word` is the verdict over all rows; no rows where no kind is on both sides."""

    base: str
    new: str
    word: str
    sentence: str
    rest: str
    relevance: float
    rows: tuple[ChangeRow, ...]

    @property
    def title(self) -> str:
        """The names of the two folders."""
        return say("compare.title", new=self.new, base=self.base)


@dataclass
class Sides:
    """The runs of each folder while a report reads them, without what weighs."""

    folders: Sequence[Path]
    relevance: float = RELEVANT_ACROSS_RUNS
    any_revision: bool = False
    _runs: dict[Path, list[RunRecord]] = field(default_factory=dict)

    def add(self, run: StoredRun) -> None:
        """Keep a run with the first of the folders that it lies in."""
        folder = self._folder(run)
        if folder is not None:
            self._runs.setdefault(folder, []).append(_light(run.record))

    def name_of(self, run: StoredRun) -> str:
        """What the folder is called that a run lies in; empty where there is one folder."""
        folder = self._folder(run)
        if folder is None:
            return ""
        return _name(folder, *(each for each in self.folders if each != folder))

    def _folder(self, run: StoredRun) -> Path | None:
        if len(self.folders) < 2:
            return None
        return next((each for each in self.folders if run.folder.is_relative_to(each)), None)

    def changes(self) -> tuple[Changes, ...]:
        """One entry for each folder after the first; none for a single one."""
        first, *others = [folder for folder in self.folders if folder in self._runs] or [Path()]
        return tuple(self._changes(first, each) for each in others)

    def _changes(self, first: Path, other: Path) -> Changes:
        before, after = self._runs[first], self._runs[other]
        kinds = [{self._kind(run) for run in side} for side in (before, after)]
        shared = kinds[0] & kinds[1]
        old, new = ([run for run in side if self._kind(run) in shared] for side in (before, after))
        alone = len(before) + len(after) - len(old) - len(new)
        names = {"base": _name(first, other), "new": _name(other, first)}
        if not shared:
            sentence = say("compare.no-kind", **names)
            return Changes(**names, word="", sentence=sentence, rest="", relevance=self.relevance, rows=())
        rows = gate(old, new, self.relevance, any_revision=self.any_revision)
        found = [_row(row, kind) for row, kind in zip(rows, _kinds(rows), strict=True)]
        found.sort(key=lambda row: ORDER.index(row.word))
        word, sentence = _verdict_over(found, names, self.relevance)
        rest = counted("alone", alone) if alone else ""
        return Changes(**names, word=word, sentence=sentence, rest=rest, relevance=self.relevance, rows=tuple(found))

    def _kind(self, run: RunRecord) -> str:
        return kind_of(run, any_revision=self.any_revision)


def _light(record: RunRecord) -> RunRecord:
    """What the verdict takes of a run: thousands of them are kept at once."""
    arms = tuple(arm.model_copy(update=HEAVY_OF_ARM) for arm in record.arms)
    return record.model_copy(update={**HEAVY_OF_RUN, "arms": arms})


def _name(folder: Path, *others: Path) -> str:
    """The folder's own name, or its path where another has the same."""
    name = folder.resolve().name
    return printable(str(folder) if name in [each.resolve().name for each in others] else name)


def _kinds(rows: Sequence[RegressionRow]) -> list[str]:
    """What tells the kind of each row from the others, such as `prompt 128 · batch 4`."""
    examples = list({id(row.example): row.example for row in rows}.values())
    labels = run_labels([run_aspects(example) for example in examples]) if len(examples) > 1 else ("",)
    known = {id(example): label for example, label in zip(examples, labels, strict=True)}
    return [known[id(row.example)] for row in rows]


def _row(row: RegressionRow, kind: str) -> ChangeRow:
    return ChangeRow(
        kind=kind,
        arm=say("change.all-arms") if row.arm is None else arm_names(row.example.arms)[row.arm],
        base=_rate(row.base_rate, row.base_interval),
        new=_rate(row.new_rate, row.new_interval),
        ratio=_ratio(row),
        processes=UNKNOWN if row.arm is None else f"{row.base_processes}, {row.new_processes}",
        word=_word(row),
        reason=own_words(printable(row.reason)),
        interval=None if row.ratio is None else (row.ratio.value, row.ratio.low, row.ratio.high),
    )


def _word(row: RegressionRow) -> str:
    """The verdict of the row; too few processes are no ambiguity but no verdict yet."""
    few = row.arm is not None and min(row.base_processes, row.new_processes) < LEAST_PROCESSES
    return FEW if few else row.verdict


def _rate(rate: float | None, interval: Interval | None) -> str:
    if interval is None:
        return format_value(rate, "tokens/s")
    return format_interval(interval.value, interval.low, interval.high, "tokens/s")


def _ratio(row: RegressionRow) -> str:
    if row.ratio is not None:
        return format_interval(row.ratio.value, row.ratio.low, row.ratio.high, "times")
    return format_value(row.new_rate / row.base_rate if row.new_rate and row.base_rate else None, "times")


def _verdict_over(rows: Sequence[ChangeRow], names: dict[str, str], relevance: float) -> tuple[str, str]:
    """The word over all rows and its sentence: FASTER where something is and nothing else is unclear."""
    counts = Counter(row.word for row in rows)
    word = next(each for each in ORDER if counts[each])
    chosen = [row for row in rows if row.word == word]
    if word in ("SLOWER", "FASTER"):
        return word, say(f"compare.{word}", arms=_named(chosen), **names)
    if word == "SAME":
        return word, say("compare.SAME", band=percent(relevance), **names)
    code = "compare.INVALID" if word == "INVALID" else "compare.AMBIGUOUS"
    return word, joined(
        say(code, reason=chosen[0].reason, **names), say("compare.named", rows=_named(chosen)) if word == FEW else ""
    )


def _named(rows: Sequence[ChangeRow]) -> str:
    """Arms with their ratios; of more than a few, their number and the first and the last."""
    if len(rows) <= MOST_NAMED:
        return enumerated([f"{' '.join(filter(None, (row.kind, row.arm)))} {row.ratio}" for row in rows])
    ordered = sorted(rows, key=lambda row: row.interval[0] if row.interval else 0.0)
    return say("compare.rows", count=f"{len(rows):,}", least=ordered[0].ratio, most=ordered[-1].ratio)
