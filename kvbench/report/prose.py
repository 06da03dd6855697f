"""Text for the terminal in which lines may end between Chinese characters, as well as between words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from rich.console import Console, ConsoleOptions, JustifyMethod, OverflowMethod
from rich.containers import Lines
from rich.measure import Measurement
from rich.text import Text as RichText

from kvbench.text import columns, is_wide

# By Chinese rules of typesetting: what may not begin a line, and what may not end one.
NO_BEGIN = "，。、；：！？）〕】》”’…%×"
NO_END = "（〔【《“‘"


class Text(RichText):
    """Rich breaks lines at spaces alone, and Chinese has none: it would cut a sentence wherever the line is full."""

    def wrap(
        self,
        console: Console,
        width: int,
        *,
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        tab_size: int = 8,
        no_wrap: bool | None = None,
    ) -> Lines:
        """The lines of the text, none wider than `width` columns."""
        if no_wrap or self.no_wrap or not any(map(is_wide, self.plain)):
            return super().wrap(console, width, justify=justify, overflow=overflow, tab_size=tab_size, no_wrap=no_wrap)
        lines = Lines()
        for line in self.split(allow_blank=True):
            ends = list(_line_ends(line.plain, width))
            lines.extend(line.divide(ends))
        for line in lines:
            line.rstrip()
        if justify or self.justify:
            lines.justify(console, width, justify=justify or self.justify or "left", overflow=overflow or "fold")
        return lines

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """The narrowest width is that of the longest part that no line may break."""
        if not any(map(is_wide, self.plain)):
            return super().__rich_measure__(console, options)
        lines = self.plain.splitlines()
        widest = max(map(columns, lines))
        parts = max(columns(part.strip()) for line in lines for part in _parts(line))
        return Measurement(parts, widest)


def _parts(line: str) -> Iterator[str]:
    """The parts between which a line may break; spaces belong to what they follow."""
    begin = 0
    for place, (before, after) in enumerate(pairwise(line), start=1):
        if _may_break(before, after):
            yield line[begin:place]
            begin = place
    yield line[begin:]


def _may_break(before: str, after: str) -> bool:
    if after == " " or after in NO_BEGIN or before in NO_END:
        return False
    return before == " " or is_wide(before) or is_wide(after)


def _line_ends(line: str, width: int) -> Iterator[int]:
    """Where the line breaks, as offsets."""
    place, used = 0, 0
    for part in _parts(line):
        size = columns(part.rstrip())
        if used and used + size > width:
            yield place
            used = 0
        while size > width:  # wider than a line by itself: wherever the line is full
            cut = _fitting(part, width)
            place, part = place + cut, part[cut:]
            yield place
            size = columns(part.rstrip())
        place, used = place + len(part), used + columns(part)


def _fitting(part: str, width: int) -> int:
    """How many characters of it fit, at least one."""
    used = 0
    for place, character in enumerate(part):
        used += columns(character)
        if used > width:
            return max(place, 1)
    return len(part)
