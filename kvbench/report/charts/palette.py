"""One colour, dash and marker per arm, the same in every chart of a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

# Okabe and Ito's colours, which stay apart for colour-blind readers (https://jfly.uni-koeln.de/color/), without those
# that have less than 3:1 contrast on the white or on the dark page; the last three fill up in the same range.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#A6761D", "#7B6FD0", "#5F8A99")
NEUTRAL = "#7F8790"
# Dash and marker repeat what the colour says, for a print in grey. Each list is run through by itself, and the numbers
# of their items have no common divisor: of 42 arms no two share colour and dash, colour and marker, or dash and marker.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = (
    *("circle", "square", "diamond", "triangle-up", "x", "cross", "star"),
    *("hexagon", "triangle-down", "pentagon", "hourglass"),
)

# Parts of memory, which are no arms: dark and light in turn, so that neighbours stay apart in grey too.
PARTS = {
    "weights": "#3B6EA8",
    "KV cache": "#E08A3C",
    "step peak": "#4F8F63",
    "allocator slack": "#A9B4C0",
    "device context": "#8064A8",
    "kernels": "#CF9CC2",
    "elsewhere": "#6F7882",
    "rest of the process": "#A9B4C0",
    "unexplained": "#C0392B",
}
WARNING = "#D55E00"

# A mode looks the same in every report.
OF_MODE = {"cached": 0, "nocache": 1, "generate": 2, "nocache_naive": 3, "generate_nocache": 4}


@dataclass(frozen=True)
class Look:
    """How one arm is drawn."""

    colour: str
    dash: str
    marker: str


@dataclass(frozen=True)
class Theme:
    """The colours of a page, as report.css has them: for pictures, which no stylesheet reaches."""

    page: str
    text: str
    line: str


LIGHT = Theme("#ffffff", "#1b1f24", "#dde1e6")
DARK = Theme("#14171c", "#e4e7eb", "#323842")
THEMES = {"light": LIGHT, "dark": DARK}


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look per arm name. The first arm of a mode gets its mode's, further ones what is free."""
    given: dict[str, int] = {}
    for name in names:
        if name not in given:
            own = OF_MODE.get(name.split(" ")[0])
            taken = set(given.values())
            free = (index for index in count() if index not in taken and index not in OF_MODE.values())
            given[name] = own if own is not None and own not in taken else next(free)
    return {name: _look(index) for name, index in given.items()}


def _look(index: int) -> Look:
    return Look(*(each[index % len(each)] for each in (COLOURS, DASHES, MARKERS)))
