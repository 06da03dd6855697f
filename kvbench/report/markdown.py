"""Runs as a Markdown table, for a README or a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvbench.printable import printable
from kvbench.records.schema import RunRecord
from kvbench.report.arms import arm_names
from kvbench.report.formatting import UNKNOWN
from kvbench.report.metrics import BY_KEY
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_name
from kvbench.report.verdicts import pairs, run_word, status_reason

METRIC_COLUMNS = ("ttft_s", "itl_s", "decode_tokens_per_s", "kv_cache_bytes")
# Whatever Markdown or the HTML inside it could read as markup.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#&~!])")


def markdown_table(records: Sequence[RunRecord]) -> str:
    """One row per run and arm; a pair that is not a result says so instead of a speed-up."""
    metrics = [BY_KEY[key] for key in METRIC_COLUMNS]
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
        for index, name in enumerate(arm_names(record)):
            figures = [metric.show(record.arms[index]) for metric in metrics]
            pair = candidates.get(index)
            speedup = "" if pair is None else pair.speedup if pair.not_a_result is None else "not a result"
            rows.append([*run, escaped(name), *figures, speedup, pair.agreement if pair else "", status])
        if not record.arms:
            rows.append([*run, UNKNOWN, *(UNKNOWN for _ in metrics), "", "", status])
    alignment = ["---", "--:", "--:", "--:", "---", *("--:" for _ in metrics), "--:", "---", "---"]
    lines = [head, alignment, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escaped(text: str) -> str:
    """Text that neither Markdown nor the HTML inside it reads as markup."""
    return _MARKUP.sub(r"\\\1", " ".join(printable(text).split()))
