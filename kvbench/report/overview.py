"""What a page keeps of each of its runs, small enough for thousands, and what changed between its folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvbench.analysis.regression import LEAST_PROCESSES, RegressionRow, gate, kind_of
from kvbench.arm import arm_names
from kvbench.records.part import Estimate, Speedup
from kvbench.records.run_record import ArmRecord, RunRecord
from kvbench.records.store import StoredRun
from kvbench.report.lengths import frontier_of
from kvbench.report.names import Aspects, batch_size, format_estimate, new_tokens, prompt_tokens, run_aspects, run_name
from kvbench.report.verdicts import extra_memory_bytes, pairs, run_word, status_reason
from kvbench.text import UNKNOWN, format_interval, format_value, printable

MOST_NAMED = 6  # devices or verdicts in a sentence


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate of one run against its baseline, or a run that compared nothing.

    `speedup` and `end_to_end` are None, with `note` saying why, unless they are results.
    """

    arm: str
    mode: str
    cache: str
    engine: str
    note: str
    rate: Estimate | None = None
    baseline: str = ""
    baseline_rate: Estimate | None = None
    speedup: Speedup | None = None
    end_to_end: Speedup | None = None
    extra_memory_bytes: int | None = None
    agreement: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. `rates` are decode tokens/s by the name of the arm; `sizes` longest prompt, new tokens, batch."""

    folder: Path
    run_id: str
    created_at: str
    aspects: Aspects
    model: str
    word: str
    valid: bool
    sizes: tuple[int | None, int | None, int | None]
    rates: tuple[tuple[str, Estimate], ...]
    rows: tuple[Row, ...]

    @property
    def best(self) -> float | None:
        """The largest speed-up of the run that is a result."""
        known = (row.speedup.value for row in self.rows if row.speedup is not None)
        return max((value for value in known if value is not None), default=None)


def summary(run: StoredRun) -> Summary:
    """What stays of a run once its record is let go."""
    record = run.record
    return Summary(
        folder=run.folder,
        run_id=record.run_id,
        created_at=record.created_at,
        aspects=run_aspects(record),
        model=printable(str((record.model or {}).get("name") or run_name(record))),
        word=run_word(record),
        valid=record.valid,
        sizes=_sizes(record),
        rates=tuple(
            (name, arm.decode_tokens_per_s) for name, arm in zip(arm_names(record.arms), record.arms, strict=True)
        ),
        rows=tuple(_rows(record)),
    )


def _rows(record: RunRecord) -> Iterator[Row]:
    names = arm_names(record.arms)
    compared: set[int] = set()
    for comparison, pair in zip(record.comparisons, pairs(record), strict=True):
        compared |= {comparison.candidate_arm, comparison.baseline_arm}
        is_result = pair.not_a_result is None
        candidate, baseline = record.arms[comparison.candidate_arm], record.arms[comparison.baseline_arm]
        yield _row(
            candidate,
            arm=pair.candidate,
            baseline=pair.baseline,
            baseline_rate=baseline.decode_tokens_per_s,
            speedup=comparison.speedup if is_result else None,
            end_to_end=comparison.end_to_end_speedup if is_result else None,
            extra_memory_bytes=extra_memory_bytes(record, comparison),
            agreement=pair.agreement,
            verdict=pair.verdict,
            note="" if is_result else f"not a result: {pair.not_a_result}",
        )
    note = "one arm: nothing to compare" if record.valid else status_reason(record)
    for index, arm in enumerate(record.arms):
        if index not in compared:
            yield _row(
                arm, arm=names[index], note=frontier_of(record, index) if record.valid and record.frontier else note
            )
    if not record.arms:
        asked = [printable(str(record.config.get(key) or UNKNOWN)) for key in ("mode", "cache", "engine")]
        mode, cache, engine = asked
        yield Row(UNKNOWN, mode, cache, engine, note)


def _row(measured: ArmRecord, *, arm: str, note: str, **compared: Any) -> Row:
    mode, cache, engine = (printable(word) for word in (measured.mode, measured.cache, measured.engine))
    return Row(arm, mode, cache, engine, note, measured.decode_tokens_per_s, **compared)


def _sizes(record: RunRecord) -> tuple[int | None, int | None, int | None]:
    workload = record.workload
    if workload is None:
        asked = record.config.get("workload")
        values = [
            asked.get(key) if isinstance(asked, dict) else None for key in ("prompt_tokens", "new_tokens", "batch_size")
        ]
        prompt, new, batch = (value if isinstance(value, int) else None for value in values)
        return prompt, new, batch
    return max(workload.prompt_tokens, default=None), workload.new_tokens, workload.batch_size


def overview_sentences(runs: Sequence[Summary]) -> tuple[str, ...]:
    """The answers over many runs: how many are valid, how fast, where, whether outputs agree, what memory it takes."""
    rows = [row for run in runs for row in run.rows]
    sentences = [f"{sum(run.valid for run in runs):,} of {len(runs):,} runs are VALID.{_speedups(rows)}"]
    devices = Counter(run.aspects.device for run in runs if run.aspects.device != UNKNOWN)
    if len(devices) > 1:
        sentences.append(f"The runs come from {len(devices):,} devices: {_counted(devices, 'run')}.")
    results = [row for row in rows if row.speedup is not None]
    if len(results) > 1:
        sentences.append(f"Verdicts: {_counted(Counter(row.verdict for row in results), '')}.")
    agreements = Counter(row.agreement for row in rows if row.agreement not in ("", UNKNOWN))
    if agreements:
        sentences.append(f"Output: {_counted(agreements, '')}.")
    extra = [row.extra_memory_bytes for row in results if row.extra_memory_bytes is not None]
    if extra:
        least, most = format_value(min(extra), "bytes"), format_value(max(extra), "bytes")
        cost = least if least == most else f"between {least} and {most}"
        sentences.append(f"Memory: a candidate takes {cost} more than its baseline.")
    return tuple(sentences)


def _speedups(rows: Sequence[Row]) -> str:
    known = [row.speedup for row in rows if row.speedup is not None and row.speedup.value is not None]
    if not known:
        return ""
    ordered = sorted(known, key=lambda ratio: ratio.value or 0.0)
    least, most = (format_estimate(ratio, "times") for ratio in (ordered[0], ordered[-1]))
    return f" The speed-up is {least}." if len(ordered) == 1 else f" Speed-ups lie between {least} and {most}."


def _counted(counts: Counter[str], noun: str) -> str:
    """The most frequent with their counts, such as `A (3 runs), B (1 run) and 2 more`."""
    parts = [
        f"{name} ({count:,}{f' {noun}' if noun else ''}{'s' if noun and count != 1 else ''})"
        for name, count in counts.most_common(MOST_NAMED)
    ]
    more = len(counts) - len(parts)
    return ", ".join(parts) + (f" and {more:,} more" if more else "")


# What changed between the folders that a report is over: the first one against each other one, as `compare` judges.


CHANGES_HEAD = ("run", "prompt", "new", "batch", "arm", "before", "after", "after ÷ before", "processes", "verdict")
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


def _summary(rows: Sequence[RegressionRow]) -> str:
    """Each verdict with its arms' ratios, and the least and the largest where they are many."""
    counts = Counter(_verdict(row) for row in rows)
    return "; ".join(f"{word}: {_of(word, rows, counts[word])}" for word in ORDER if counts[word])


def _of(word: str, rows: Sequence[RegressionRow], count: int) -> str:
    chosen = sorted((row for row in rows if _verdict(row) == word), key=lambda row: _ratio(row) or 0.0)
    if count <= 2:
        return ", ".join(f"{_arm(row)} {_told(row)}" for row in chosen)
    return f"in {count} rows, {_told(chosen[0])} to {_told(chosen[-1])}"


def _verdict(row: RegressionRow) -> str:
    """The word of the row; too few processes are no ambiguity but no verdict yet."""
    if row.verdict == "INVALID":
        return "not comparable"
    few = min(row.base_processes, row.new_processes) < LEAST_PROCESSES
    return FEW if few else row.verdict


def _ratio(row: RegressionRow) -> float | None:
    return row.new_rate / row.base_rate if row.new_rate and row.base_rate else None


def _told(row: RegressionRow) -> str:
    if row.ratio is None:
        return format_value(_ratio(row), "times")
    return format_interval(row.ratio.value, row.ratio.low, row.ratio.high, "times")


def _arm(row: RegressionRow) -> str:
    return "all arms" if row.arm is None else arm_names(row.example.arms)[row.arm]


def _cells(row: RegressionRow) -> tuple[str, ...]:
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
