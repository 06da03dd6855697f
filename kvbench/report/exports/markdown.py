"""Runs as Markdown, for a README or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kvbench.arm import arm_names
from kvbench.printable import printable
from kvbench.records.schema import RunRecord
from kvbench.report.formatting import UNKNOWN
from kvbench.report.growth import CAPTION as GROWTH_CAPTION
from kvbench.report.growth import growth_arms, growth_rows, growth_sentences
from kvbench.report.headline import headlines, run_kind
from kvbench.report.metrics import BY_KEY
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_name
from kvbench.report.verdicts import pairs, run_word, status_reason

METRIC_COLUMNS = ("ttft_s", "itl_s", "decode_tokens_per_s", "kv_cache_bytes")
LIMIT_COLUMNS = ("mbu", "mfu")  # where some arm has them
# Whatever Markdown or the HTML inside it could read as markup.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#&~!])")


def markdown(records: Sequence[RunRecord]) -> str:
    """The table of the runs, then of every run what else it has found: how it grows, and why it came out so."""
    return "\n".join((markdown_table(records), *(part for record in records for part in _more(record))))


def _more(record: RunRecord) -> Iterator[str]:
    if run_kind(record) not in ("speed-up", "one arm"):  # the table has those
        said = "".join(f"- {escaped(each.sentence)}\n" for each in headlines(record))
        yield f"**{escaped(run_name(record))}**\n\n{said}" if said else ""
    if record.growth is not None and record.valid:
        yield f"**{escaped(run_name(record))}**: {escaped(GROWTH_CAPTION)}\n"
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
