"""What a page keeps of each of its runs, small enough for thousands, and what all of them say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kvbench.analysis.regression import comparable, kind_of
from kvbench.arm import arm_names
from kvbench.records.part import Estimate, Speedup
from kvbench.records.run_record import ArmRecord, RunRecord
from kvbench.records.store import StoredRun
from kvbench.report.lengths import frontier_of
from kvbench.report.names import Aspects, format_estimate, run_aspects, run_name
from kvbench.report.sentences import counted, enumerated, joined, listed, output_word, own_words, say, word
from kvbench.report.verdicts import extra_memory_bytes, pairs, run_word, status_reason
from kvbench.text import UNKNOWN, format_value, printable

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
    title: str = ""  # that its configuration asks for
    kind: str = ""  # its compare_key: runs of one kind may be averaged
    likeness: tuple[tuple[str, str], ...] = ()  # what else makes runs of several prompt lengths alike
    commit: str = ""
    side: str = ""  # the folder that it lies in, where several are compared

    @property
    def best(self) -> float | None:
        """The largest speed-up of the run that is a result."""
        known = (row.speedup.value for row in self.rows if row.speedup is not None)
        return max((value for value in known if value is not None), default=None)


def summary(run: StoredRun, side: str = "") -> Summary:
    """What stays of a run once its record is let go; `side` is the folder that it lies in, where there are several."""
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
        title=printable(str(record.config.get("title") or "")),
        kind=kind_of(record),
        likeness=_shared(tuple((name, str(value)) for name, value in comparable(record).items() if name not in SHOWN)),
        commit=printable(str(record.environment.get("git_commit") or "")),
        side=side,
    )


# Told by a run's label, or what a line runs over.
SHOWN = ("model", "device_name", "workload.prompt_tokens", "workload.new_tokens", "workload.batch_size", "arms")


@lru_cache(maxsize=1024)
def _shared(likeness: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The same object for thousands of like runs."""
    return likeness


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
            note="" if is_result else say("terminal.not-a-result", reason=pair.why_not),
        )
    note = say("overview.one-arm") if record.valid else own_words(status_reason(record))
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
    valid, count = f"{sum(run.valid for run in runs):,}", f"{len(runs):,}"
    sentences = [joined(say("overview.valid", valid=valid, count=count), _speedups(rows))]
    devices = Counter(run.aspects.device for run in runs if run.aspects.device != UNKNOWN)
    if len(devices) > 1:
        sentences.append(say("overview.devices", count=f"{len(devices):,}", devices=_counted(devices, "runs")))
    results = [row for row in rows if row.speedup is not None]
    if len(results) > 1:
        sentences.append(say("overview.verdicts", verdicts=_counted(Counter(word(row.verdict) for row in results))))
    agreements = Counter(output_word(row.agreement) for row in rows if row.agreement not in ("", UNKNOWN))
    if agreements:
        sentences.append(say("output.one", word=_counted(agreements)))
    extra = [row.extra_memory_bytes for row in results if row.extra_memory_bytes is not None]
    if extra:
        ends = dict.fromkeys(map(_more_or_less, (min(extra), max(extra))))
        sentences.append(say("overview.memory.one" if len(ends) == 1 else "overview.memory.many", cost=listed([*ends])))
    return tuple(sentences)


def _more_or_less(extra: int) -> str:
    return say("overview.less" if extra < 0 else "overview.more", figure=format_value(abs(extra), "bytes"))


def _speedups(rows: Sequence[Row]) -> str:
    known = [row.speedup for row in rows if row.speedup is not None and row.speedup.value is not None]
    if not known:
        return ""
    ordered = sorted(known, key=lambda ratio: ratio.value or 0.0)
    least, most = (format_estimate(ratio, "times") for ratio in (ordered[0], ordered[-1]))
    return (
        say("overview.speedup", figure=least) if len(ordered) == 1 else say("overview.speedups", least=least, most=most)
    )


def _counted(counts: Counter[str], noun: str = "") -> str:
    """The most frequent with their counts, such as `A (3 runs), B (1 run) and 2 more`."""
    parts = [
        say("overview.counted", name=name, count=counted(noun, count) if noun else f"{count:,}")
        for name, count in counts.most_common(MOST_NAMED)
    ]
    more = len(counts) - len(parts)
    return enumerated(parts) + (say("overview.and-more", count=f"{more:,}") if more else "")
