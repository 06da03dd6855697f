"""The gate's answer: a Markdown table for a pull request, and the same as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from kvbench.analysis.gate import GateRow, worst
from kvbench.arm import arm_names
from kvbench.report.exports.markdown import escaped
from kvbench.report.formatting import UNKNOWN, format_level, format_value
from kvbench.report.names import batch_size, new_tokens, prompt_tokens, run_name
from kvbench.statistics import LEVEL, Interval

HEAD = ("run", "prompt", "new", "batch", "arm", "base tokens/s", "new tokens/s", "new ÷ base", "processes", "verdict")
ALIGNMENT = ("---", "--:", "--:", "--:", "---", "--:", "--:", "--:", "--:", "---")


def gate_markdown(rows: Sequence[GateRow]) -> str:
    """One row per arm; a reason follows the verdict where there is one."""
    lines = [HEAD, ALIGNMENT, *map(_line, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def gate_summary(rows: Sequence[GateRow], relevance: float) -> str:
    """One line under the table: the verdict over all rows, and what its figures are."""
    counts = Counter(row.verdict for row in rows)
    low, high = 1 / (1 + relevance), 1 + relevance
    return (
        f"{worst(rows)} over {len(rows)} row(s) ({', '.join(f'{counts[word]} {word}' for word in sorted(counts))}). "
        f"Decode speed, new ÷ base: geometric means over processes, Welch's {format_level(LEVEL)} interval; "
        f"{low:.3f} to {high:.3f} counts as no change."
    )


def gate_data(rows: Sequence[GateRow]) -> list[dict[str, Any]]:
    """The same as plain data for `--json`."""
    return [
        {
            "compare_key": row.example.keys.compare_key,
            "run": run_name(row.example),
            "prompt_tokens": prompt_tokens(row.example),
            "new_tokens": new_tokens(row.example),
            "batch_size": batch_size(row.example),
            "arm": _arm(row),
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


def _line(row: GateRow) -> tuple[str, ...]:
    said = f"**{row.verdict}**" + (f": {escaped(row.reason)}" if row.reason else "")
    return (
        escaped(run_name(row.example)),
        prompt_tokens(row.example),
        new_tokens(row.example),
        batch_size(row.example),
        escaped(_arm(row) or "all"),
        *(UNKNOWN if rate is None else format_value(rate, "tokens/s") for rate in (row.base_rate, row.new_rate)),
        _told(row.ratio),
        f"{row.base_processes}, {row.new_processes}" if row.arm is not None else UNKNOWN,
        said,
    )


def _arm(row: GateRow) -> str | None:
    return None if row.arm is None else arm_names(row.example.arms)[row.arm]


def _told(ratio: Interval | None) -> str:
    return UNKNOWN if ratio is None else f"{ratio.value:.3f}× [{ratio.low:.3f}, {ratio.high:.3f}]"
