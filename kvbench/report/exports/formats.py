"""Runs in the formats of other programs, and as Markdown for a README or a pull request, the gate's answer too."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kvbench.analysis.regression import RegressionRow, worst
from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.records.store import Hearer, StoredRun, nobody
from kvbench.report.exports.columns import COLUMNS, Column, Row
from kvbench.report.exports.rows import flat_rows, pytest_benchmark
from kvbench.report.lengths import growth_arms, growth_rows, growth_sentences
from kvbench.report.metrics import BY_KEY
from kvbench.report.names import batch_size, format_level, new_tokens, prompt_tokens, run_name
from kvbench.report.sentences import say
from kvbench.report.verdicts import headlines, pairs, run_kind, run_word, status_reason
from kvbench.statistics import LEVEL, Interval
from kvbench.text import UNKNOWN, format_value, printable

if TYPE_CHECKING:
    import pyarrow

# A spreadsheet runs a cell that begins so, whatever blanks stand before it; a quote in front makes it text. The wide
# forms are read as the narrow ones by some.
FORMULA_STARTS = tuple("=+-@＝＋－＠")
METRIC_COLUMNS = ("ttft_s", "itl_s", "decode_tokens_per_s", "kv_cache_bytes")
LIMIT_COLUMNS = ("mbu", "mfu")  # where some arm has them
# Whatever Markdown or the HTML inside it could read as markup.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#&~!])")
REGRESSION_HEAD = (
    "run",
    "prompt",
    "new",
    "batch",
    "arm",
    "base tokens/s",
    "new tokens/s",
    "new ÷ base",
    "processes",
    "verdict",
)
REGRESSION_ALIGNMENT = ("---", "--:", "--:", "--:", "---", "--:", "--:", "--:", "--:", "---")


def export(runs: Sequence[StoredRun], format: str, tell: Hearer = nobody) -> bytes:
    """The runs as `csv`, `json`, `parquet`, `md` or `pytest-benchmark`. Raises `KeyError` on any other format.

    csv and parquet hold one row per run and arm (`exports.rows`), json the list of the records, md tables, and
    pytest-benchmark what `pytest-benchmark compare` reads. `tell` hears of files beside the records that do not fit.
    """
    return FORMATS[format](runs, tell)


def record_json(value: Any) -> bytes:
    """JSON of plain data in ASCII only: safe on any terminal, and every character can be had back."""
    text = json.dumps(value, indent=1, allow_nan=False)
    # DEL is the one control character that JSON leaves as it is; it can only stand inside strings.
    return (text.replace("\x7f", "\\u007f") + "\n").encode()


def _json(runs: Sequence[StoredRun], _: Hearer) -> bytes:
    return record_json([run.record.model_dump(mode="json") for run in runs])


def _csv(runs: Sequence[StoredRun], _: Hearer) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    for row in flat_rows(runs):
        writer.writerow({name: cell(value) for name, value in row.items()})
    return text.getvalue().encode()


def cell(value: Any) -> Any:
    """A value as a cell of csv: text that no spreadsheet takes for a formula, and no terminal obeys."""
    if not isinstance(value, str):
        return value
    safe = printable(value).replace("\t", " ").replace("\n", " ")
    return f"'{safe}" if safe.strip().startswith(FORMULA_STARTS) or safe[:1].isspace() else safe


def _parquet(runs: Sequence[StoredRun], _: Hearer) -> bytes:
    return parquet_bytes(arm_table(flat_rows(runs)))


def arm_table(rows: Sequence[Row]) -> pyarrow.Table:
    """What `flat_rows` gives as a table."""
    return arrow_table(rows, COLUMNS)


def arrow_table(rows: Sequence[Row], columns: Mapping[str, Column]) -> pyarrow.Table:
    """Rows as a table with these columns; what a row lacks is null, and no text of it could be obeyed by a terminal."""
    import pyarrow

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, types[column.kind]) for name, column in columns.items()])
    plain = [
        {name: printable(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    ]
    return pyarrow.Table.from_pylist(plain, schema=schema)


def named_steps(steps: pyarrow.Table, record: RunRecord) -> pyarrow.Table:
    """A per-step table (see `records.step_table`) with `arm_name`, the name of each step's arm, behind `arm`."""
    import pyarrow
    import pyarrow.compute

    names = pyarrow.array(map(printable, arm_names(record.arms)), pyarrow.string())
    # An arm that the record does not have has no name.
    places = pyarrow.compute.index_in(steps["arm"].combine_chunks(), pyarrow.array(range(len(names)), pyarrow.int32()))
    return steps.add_column(steps.column_names.index("arm") + 1, "arm_name", names.take(places))


def parquet_bytes(table: pyarrow.Table) -> bytes:
    """A table as a parquet file."""
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _markdown(runs: Sequence[StoredRun], _: Hearer) -> bytes:
    return markdown([run.record for run in runs]).encode()


def _pytest_benchmark(runs: Sequence[StoredRun], tell: Hearer) -> bytes:
    return record_json(pytest_benchmark(runs, tell))


FORMATS: dict[str, Callable[[Sequence[StoredRun], Hearer], bytes]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
    "md": _markdown,
    "pytest-benchmark": _pytest_benchmark,
}


def markdown(records: Sequence[RunRecord]) -> str:
    """The table of the runs, then of every run what else it has found: how it grows, and why it came out so."""
    return "\n".join((markdown_table(records), *(part for record in records for part in _more(record))))


def _more(record: RunRecord) -> Iterator[str]:
    if run_kind(record) not in ("speed-up", "one arm"):  # the table has those
        said = "".join(f"- {escaped(each.sentence)}\n" for each in headlines(record))
        yield f"**{escaped(run_name(record))}**\n\n{said}" if said else ""
    if record.growth is not None and record.valid:
        yield f"**{escaped(run_name(record))}**: {escaped(say('growth.caption'))}\n"
        names = [escaped(name) for name in growth_arms(record)]
        rows = [[escaped(row.title), *map(escaped, row.cells)] for row in growth_rows(record)]
        yield _table([["", *names], ["---", *("--:" for _ in names)], *rows])
        yield "".join(f"- {escaped(sentence)}\n" for sentence in growth_sentences(record))
    for comparison, pair in zip(record.comparisons, pairs(record), strict=True):
        if comparison.diagnosis:
            yield f"**{escaped(run_name(record))}**, {escaped(pair.candidate)} against {escaped(pair.baseline)}:\n"
            yield "".join(f"- {escaped(sentence.text)}\n" for sentence in comparison.diagnosis)


def markdown_table(records: Sequence[RunRecord]) -> str:
    """One row per run and arm; a pair that is not a result says so instead of a speed-up."""
    limits = [key for key in LIMIT_COLUMNS if any(BY_KEY[key].value(arm) for run in records for arm in run.arms)]
    metrics = [BY_KEY[key] for key in (*METRIC_COLUMNS, *limits)]
    head = [
        "run",
        "prompt",
        "new",
        "batch",
        "arm",
        *(metric.title for metric in metrics),
        "speed-up",
        "agreement",
        "status",
    ]
    rows = []
    for record in records:
        candidates = {
            comparison.candidate_arm: pair for comparison, pair in zip(record.comparisons, pairs(record), strict=True)
        }
        sizes = (prompt_tokens(record), new_tokens(record), batch_size(record))
        run = [escaped(text) for text in (run_name(record), *sizes)]
        status = run_word(record) if record.valid else f"{run_word(record)}: {escaped(status_reason(record))}"
        for index, name in enumerate(arm_names(record.arms)):
            figures = [metric.show(record.arms[index]) for metric in metrics]
            pair = candidates.get(index)
            speedup = "" if pair is None else pair.speedup if pair.not_a_result is None else "not a result"
            rows.append([*run, escaped(name), *figures, speedup, pair.agreement if pair else "", status])
        if not record.arms:
            rows.append([*run, UNKNOWN, *(UNKNOWN for _ in metrics), "", "", status])
    alignment = ["---", "--:", "--:", "--:", "---", *("--:" for _ in metrics), "--:", "---", "---"]
    return _table([head, alignment, *rows])


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escaped(text: str) -> str:
    """Text that neither Markdown nor the HTML inside it reads as markup."""
    return _MARKUP.sub(r"\\\1", " ".join(printable(text).split()))


# The gate's answer.


def regression_markdown(rows: Sequence[RegressionRow]) -> str:
    """One row per arm; a reason follows the verdict where there is one."""
    return _table([REGRESSION_HEAD, REGRESSION_ALIGNMENT, *map(_regression_line, rows)])


def regression_summary(rows: Sequence[RegressionRow], relevance: float) -> str:
    """One line under the table: the verdict over all rows, and what its figures are."""
    counts = Counter(row.verdict for row in rows)
    low, high = 1 / (1 + relevance), 1 + relevance
    return (
        f"{worst(rows)} over {len(rows)} row(s) ({', '.join(f'{counts[word]} {word}' for word in sorted(counts))}). "
        f"Decode speed, new ÷ base: geometric means over processes, Welch's {format_level(LEVEL)} interval; "
        f"{low:.3f} to {high:.3f} counts as no change."
    )


def regression_data(rows: Sequence[RegressionRow]) -> list[dict[str, Any]]:
    """The same as plain data for `--json`."""
    return [
        {
            "compare_key": row.example.keys.compare_key,
            "run": run_name(row.example),
            "prompt_tokens": prompt_tokens(row.example),
            "new_tokens": new_tokens(row.example),
            "batch_size": batch_size(row.example),
            "arm": _regression_arm(row),
            "base_processes": row.base_processes,
            "new_processes": row.new_processes,
            "base_decode_tokens_per_s": row.base_rate,
            "new_decode_tokens_per_s": row.new_rate,
            "ratio": None if row.ratio is None else row.ratio.value,
            "ratio_ci_low": None if row.ratio is None else row.ratio.low,
            "ratio_ci_high": None if row.ratio is None else row.ratio.high,
            "level": None if row.ratio is None else row.ratio.level,
            "verdict": row.verdict,
            "reason": row.reason,
        }
        for row in rows
    ]


def _regression_line(row: RegressionRow) -> tuple[str, ...]:
    said = f"**{row.verdict}**" + (f": {escaped(row.reason)}" if row.reason else "")
    return (
        escaped(run_name(row.example)),
        prompt_tokens(row.example),
        new_tokens(row.example),
        batch_size(row.example),
        escaped(_regression_arm(row) or "all"),
        *(UNKNOWN if rate is None else format_value(rate, "tokens/s") for rate in (row.base_rate, row.new_rate)),
        _regression_ratio(row.ratio),
        f"{row.base_processes}, {row.new_processes}" if row.arm is not None else UNKNOWN,
        said,
    )


def _regression_arm(row: RegressionRow) -> str | None:
    return None if row.arm is None else arm_names(row.example.arms)[row.arm]


def _regression_ratio(ratio: Interval | None) -> str:
    return UNKNOWN if ratio is None else f"{ratio.value:.3f}× [{ratio.low:.3f}, {ratio.high:.3f}]"
