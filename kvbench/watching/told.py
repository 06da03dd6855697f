"""A watch in the terminal: a table of its generations, then the sentences, what to change last."""

from __future__ import annotations

from kvbench.text import format_value, one_line
from kvbench.watching.watch_record import GenerationRecord, WatchRecord

MOST_GENERATIONS = 12  # rows of the table; a script may make thousands
HEAD = ("", "new tokens", "sequences", "passes", "positions", "with a cache", "step", "in the model", "of wall")


def told(record: WatchRecord) -> str:
    """The whole of a record in words."""
    lines = [_headline(record)]
    if record.generations:
        lines += ["", *_table(record.generations)]
    for title, change in (("What was seen", False), ("What to change", True)):
        sentences = [finding.text for finding in record.findings if finding.change is change]
        if sentences:
            lines += ["", title, *(f"- {one_line(text)}" for text in sentences)]
    if record.passes:
        share = format_value(record.cost_share, "ratio")
        lines += ["", f"Watching took {format_value(record.cost_s, 's')}, {share} of the time."]
    return "\n".join(lines)


def _headline(record: WatchRecord) -> str:
    passes, generations = len(record.passes), len(record.generations)
    counted = (
        f"{passes:,} forward pass{'' if passes == 1 else 'es'} in {generations:,} text{'' if generations == 1 else 's'}"
    )
    return one_line(f"{record.model}, {record.dtype} on {record.device}: {counted}")


def row_of(number: int, generation: GenerationRecord) -> tuple[str, ...]:
    """One generation as the cells under `HEAD`."""
    name = "generate" if generation.by_generate else "loop" if generation.kind == "decoding" else generation.kind
    if generation.site is not None:
        name += f" at {generation.site}"
    least = generation.positions_with_cache
    return (
        one_line(f"{number + 1}. {name}"),
        _new_tokens(generation),
        f"{generation.rows:,}",
        f"{generation.passes:,}",
        f"{generation.positions:,}",
        "—" if least is None or generation.kind != "decoding" else f"{least:,}",
        format_value(generation.step_s, "s"),
        format_value(generation.model_s, "s"),
        format_value(generation.model_s / generation.wall_s if generation.wall_s else None, "ratio"),
    )


def _new_tokens(generation: GenerationRecord) -> str:
    if generation.kind != "decoding":
        return "—"
    return (
        f"{generation.new_tokens:,}" if generation.positions_with_cache is not None else f"≥ {generation.new_tokens:,}"
    )


def _table(generations: tuple[GenerationRecord, ...]) -> list[str]:
    rows = [HEAD, *(row_of(number, each) for number, each in enumerate(generations[:MOST_GENERATIONS]))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [
        "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))])
        for name, *cells in rows
    ]
    left = len(generations) - MOST_GENERATIONS
    return [*lines, f"… and {left:,} more"] if left > 0 else lines
