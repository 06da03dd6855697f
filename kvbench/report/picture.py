"""A picture of what each mode submits at every step: which positions are computed, and which come from the cache.

The counts are those of `kvbench.passes`, which every measured run is checked against.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from kvbench.capabilities import MODES
from kvbench.passes import Interruptions, passes_by_token
from kvbench.report.sentences import say
from kvbench.text import columns, padded, printable


@dataclass(frozen=True)
class Row:
    """One forward pass: positions from `begin` up to `end` are computed, those before `begin` come from the cache."""

    label: str
    begin: int
    end: int

    @property
    def computed(self) -> int:
        """How many positions are computed."""
        return self.end - self.begin


@dataclass(frozen=True)
class Panel:
    """All passes of one mode, the prefill first."""

    mode: str
    rows: tuple[Row, ...]

    @property
    def computed(self) -> int:
        """How many positions all passes compute together."""
        return sum(row.computed for row in self.rows)

    @property
    def positions(self) -> int:
        """The longest context."""
        return max(row.end for row in self.rows)

    @property
    def total(self) -> str:
        """The sum in words."""
        return say("picture.total", computed=f"{self.computed:,}", count=f"{len(self.rows):,}")

    @property
    def title(self) -> str:
        """What the mode does."""
        return say(f"picture.{self.mode}")


def panel(mode: str, prompt_tokens: int, new_tokens: int, interruptions: Interruptions | None = None) -> Panel:
    """What `mode` submits after a prompt of so many tokens. The prefill makes the first of the new tokens."""
    passes = passes_by_token(
        new_tokens,
        prompt_tokens,
        MODES[mode].keeps_past,
        interruptions or Interruptions(),
        loses_past=mode == "interrupted",
    )
    rows = []
    for index, (made,) in enumerate(passes):
        begin = made.past_before or 0
        rows.append(
            Row(say("picture.step", index=index) if index else say("picture.prefill"), begin, begin + made.submitted)
        )
    return Panel(mode, tuple(rows))


MOST_ROWS = 24  # of a panel; of longer ones the first and the last are drawn


def _drawn(rows: Sequence[Row]) -> Iterator[Row | None]:
    """The rows that are drawn, with None in the place of those left out."""
    if len(rows) <= MOST_ROWS:
        yield from rows
        return
    yield from rows[: MOST_ROWS // 2]
    yield None
    yield from rows[-(MOST_ROWS // 2 - 1) :]


def _written(tokens: Sequence[str], position: int) -> str:
    """The token at a position, as one printable word; empty where it is not known."""
    return printable(tokens[position]).strip() if position < len(tokens) else ""


# For a web page: two panels beside each other, without scripts, fonts or anything else from outside.


@dataclass(frozen=True)
class Colours:
    """The colours of a picture."""

    page: str
    text: str
    faint: str
    cached: str
    again: str  # computed although a cache could have held it
    once: str  # computed because it is new


# Okabe and Ito's orange and blue, which colour-blind readers can tell apart; lighter on a dark page.
LIGHT = Colours("#ffffff", "#1b1f24", "#57606a", "#e3e7ec", "#D55E00", "#0072B2")
DARK = Colours("#0d1117", "#e4e7eb", "#9aa4af", "#30363d", "#E8732A", "#3D9BD9")
THEMES = {"light": LIGHT, "dark": DARK}

LABEL, ROW, TOP, GAP, MARGIN = 66, 22, 52, 28, 10  # px
WIDEST, GRID = 38, 380  # px: of a cell, of all cells of a panel
NARROWEST_WITH_TEXT = 24  # px


def svg(panels: Sequence[Panel], tokens: Sequence[str] = (), theme: str = "light") -> str:
    """The panels side by side as an SVG document. `tokens` are the texts of the prompt's and of the new tokens."""
    colours = THEMES[theme]
    columns = max(each.positions for each in panels) + 1  # the last new token is written, and never computed
    cell = min(WIDEST, GRID / columns)
    width = LABEL + cell * columns + GAP
    height = TOP + ROW * max(sum(1 for _ in _drawn(each.rows)) for each in panels) + 34
    whole = width * len(panels) - GAP + 2 * MARGIN
    spoken = "; ".join(f"{each.mode}: {each.total}" for each in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:.0f} {height}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="12" fill="{colours.text}" aria-label="{escape(spoken)}">',
        f"<title>{escape(spoken)}</title>",
        f'<rect width="100%" height="100%" fill="{colours.page}"/>',
    ]
    for index, each in enumerate(panels):
        parts += _panel_svg(each, tokens, colours, MARGIN + index * width, cell)
    return "\n".join((*parts, "</svg>", ""))


def _panel_svg(each: Panel, tokens: Sequence[str], colours: Colours, left: float, cell: float) -> Iterable[str]:
    fresh = colours.once if MODES[each.mode].keeps_past else colours.again
    grid = left + LABEL
    with_text = bool(tokens) and cell >= NARROWEST_WITH_TEXT
    yield f'<text x="{left:.1f}" y="20" font-size="14" font-weight="700">{escape(each.title)}</text>'
    if with_text:
        for position in range(each.positions + 1):
            yield (
                f'<text x="{grid + (position + 0.5) * cell:.1f}" y="44" text-anchor="middle" font-size="10.5">'
                f"{escape(_cut(_written(tokens, position), cell))}</text>"
            )
    top = TOP
    for row in _drawn(each.rows):
        if row is None:
            yield f'<text x="{left:.1f}" y="{top + 15}" fill="{colours.faint}">⋮</text>'
            top += ROW
            continue
        yield (
            f'<text x="{left:.1f}" y="{top + 15}">{row.label}</text>'
            f'<text x="{grid - 6:.1f}" y="{top + 15}" text-anchor="end" font-weight="700" fill="{fresh}">'
            f"{row.computed}</text>"
        )
        for begin, end, colour in ((0, row.begin, colours.cached), (row.begin, row.end, fresh)):
            yield from _cells(range(begin, end), grid, top, cell, f'fill="{colour}"')
        yield from _cells(
            range(row.end, row.end + 1), grid, top, cell, f'fill="none" stroke="{fresh}" stroke-dasharray="2 2"'
        )
        if with_text:
            yield (
                f'<text x="{grid + (row.end + 0.5) * cell:.1f}" y="{top + 15}" text-anchor="middle" font-size="10.5">'
                f"{escape(_cut(_written(tokens, row.end), cell))}</text>"
            )
        top += ROW
    yield f'<text x="{left:.1f}" y="{top + 20}" font-size="14" font-weight="700">{each.total}</text>'


def _cut(word: str, cell: float) -> str:
    """As much of a word as a cell has room for, at about 6 px per character."""
    most = int(cell / 6)
    return word if len(word) <= most else f"{word[: most - 1]}…"


def _cells(positions: range, left: float, top: float, cell: float, look: str) -> Iterator[str]:
    for position in positions:
        yield (
            f'<rect x="{left + position * cell + 1:.1f}" y="{top + 1}" width="{cell - 2:.1f}" height="{ROW - 2}"'
            f' rx="2" {look}/>'
        )


# For a terminal: a line per pass.

FRESH, KEPT = "■", "·"


def terminal(panels: Sequence[Panel], tokens: Sequence[str] = (), width: int = 80) -> str:
    """The panels one below the other as plain text. Where positions do not fit, one sign stands for several."""
    lines: list[str] = []
    for each in panels:
        words = max((columns(_written(tokens, row.end)) for row in each.rows), default=0) if tokens else 0
        label = max(columns(row.label) for row in each.rows)
        count = len(f"{each.positions:,}")
        room = max(1, width - label - count - words - 8)
        scale = -(-each.positions // room)
        signs = -(-each.positions // scale)
        lines += [each.title, *([say("picture.scale", count=scale)] if scale > 1 else [])]
        for row in _drawn(each.rows):
            if row is None:
                lines.append("⋮")
                continue
            kept = row.begin // scale
            drawn = KEPT * kept + FRESH * max(1, -(-row.end // scale) - kept)
            word = _written(tokens, row.end)
            line = (
                f"{padded(row.label, label)}  {row.computed:>{count},}  {drawn:<{signs}}  {f'→ {word}' if word else ''}"
            )
            lines.append(line.rstrip())
        lines += [each.total, ""]
    return "\n".join(lines[:-1])
