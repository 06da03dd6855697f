"""The arms of a run as rows of one table, with the best of each column marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kvbench.arm import arm_names
from kvbench.records.run_record import Comparison, RunRecord
from kvbench.report.best import OF_ITSELF, best_of, with_interval
from kvbench.report.metrics import BY_KEY, Metric, unknown
from kvbench.report.names import format_exact, null_reason
from kvbench.report.run_facts import modes_in_words
from kvbench.report.sentences import explained, joined, output_word, own_words, say, word
from kvbench.report.verdicts import pairs
from kvbench.text import UNKNOWN

COLUMNS = (
    "ttft_s",
    "itl_s",
    "decode_tokens_per_s",
    "end_to_end_tokens_per_s",
    "kv_cache_bytes",
    "peak_allocated_bytes",
)
OF_MEMORY = ("kv_cache_bytes", "peak_allocated_bytes")  # the smallest cache is that of an arm without one


@dataclass(frozen=True)
class Cell:
    """One figure: as shown, and as recorded or the reason why it is unknown."""

    text: str
    title: str
    known: bool
    best: bool = False


NOTHING = Cell("", "", known=False)
ITSELF = "1×"  # of the baseline


@dataclass(frozen=True)
class Head:
    """The title of a column, and what it means."""

    title: str
    meaning: str


@dataclass(frozen=True)
class Glance:
    """A row per arm, the first cell of each being its name."""

    heads: tuple[Head, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    caption: str
    modes: tuple[str, ...]  # what each of them does


def glance(record: RunRecord) -> Glance | None:
    """None for a run without arms."""
    if not record.arms:
        return None
    names = arm_names(record.arms)
    columns = [*_speedups(record), *_outputs(record), *_figures(record)]
    marked = any(cell.best for _, cells in columns for cell in cells)
    return Glance(
        heads=tuple(head for head, _ in columns),
        rows=tuple((name, tuple(cells[arm] for _, cells in columns)) for arm, name in enumerate(names)),
        caption=joined(
            say("glance.over-all") if record.growth else "",
            say("glance.median"),
            say("glance.star", star="★") if marked else "",
        ),
        modes=modes_in_words(record),
    )


Column = tuple[Head, Sequence[Cell]]


def _figures(record: RunRecord) -> Iterator[Column]:
    for key in COLUMNS:
        metric = BY_KEY[key]
        if key in OF_MEMORY and all(unknown(metric, arm) for arm in record.arms):
            continue
        found = [metric.read(arm) for arm in record.arms]
        best = (
            set[int]()
            if key in OF_MEMORY or not record.valid
            else best_of(list(map(with_interval, found)), metric.better)
        )
        cells = [_cell(record, metric, arm, best=arm in best) for arm in range(len(record.arms))]
        yield Head(say(f"column.{key}"), say(f"glance.{key}")), cells


def _cell(record: RunRecord, metric: Metric, arm: int, *, best: bool) -> Cell:
    measured = record.arms[arm]
    if unknown(metric, measured):
        return Cell(UNKNOWN, own_words(null_reason(record, metric.pointer(arm))), known=False)
    return Cell(metric.show(measured), metric.exact(measured), known=True, best=best)


def _speedups(record: RunRecord) -> Iterator[Column]:
    """Of every candidate whose pair is a result; nothing where the baselines differ, as a column has one."""
    found = {each.candidate_arm: (each, pair) for each, pair in zip(record.comparisons, pairs(record), strict=True)}
    baselines = {each.baseline_arm for each in record.comparisons}
    if len(baselines) != 1 or all(pair.not_a_result is not None for _, pair in found.values()):
        return
    (baseline,) = baselines
    known: dict[int, Comparison] = {arm: each for arm, (each, pair) in found.items() if pair.not_a_result is None}
    values = [with_interval(known[arm].speedup) if arm in known else None for arm in range(len(record.arms))]
    values[baseline] = OF_ITSELF
    best = best_of(values, "higher")
    arms = range(len(record.arms))
    yield (
        Head(say("column.speedup"), say("glance.speedup", baseline=arm_names(record.arms)[baseline])),
        [
            Cell(found[arm][1].speedup, _exact(known[arm]), known=True, best=arm in best)
            if arm in known
            else Cell(ITSELF if arm == baseline else UNKNOWN, _why_none(found, arm), arm == baseline, arm in best)
            for arm in arms
        ],
    )
    yield (
        Head(say("column.verdict"), say("glance.verdict")),
        [
            Cell(word(found[arm][1].verdict), found[arm][1].meaning, known=True) if arm in known else NOTHING
            for arm in arms
        ],
    )


def _exact(comparison: Comparison) -> str:
    return format_exact(comparison.speedup.value, "times")


def _why_none(found: Mapping[int, tuple[Comparison, object]], arm: int) -> str:
    return own_words("; ".join(found[arm][0].reasons)) if arm in found else say("glance.baseline")


def _outputs(record: RunRecord) -> Iterator[Column]:
    found = {each.candidate_arm: pair for each, pair in zip(record.comparisons, pairs(record), strict=True)}
    if not found:
        return
    yield (
        Head(say("column.output"), say("glance.output", baseline=next(iter(found.values())).baseline)),
        [
            Cell(output_word(found[arm].agreement), explained("agreement", found[arm].agreement_detail), known=True)
            if arm in found
            else NOTHING
            for arm in range(len(record.arms))
        ],
    )
