"""The picture of what each mode submits: counted as runs are checked, and drawn without anything from outside."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from kvbench.passes import Interruptions
from kvbench.report.picture import FRESH, KEPT, MOST_ROWS, THEMES, panel, svg, terminal

TOKENS = ["The", " cache", " keeps", " the", " keys", " and", " values", " of", " every", " token"]
NOCACHE, CACHED = panel("nocache", 3, 7), panel("cached", 3, 7)


def rectangles(document: str, fill: str) -> int:
    return document.count(f'rx="2" fill="{fill}"')


def test_recompute_submits_a_triangle_and_a_cache_a_diagonal() -> None:
    assert [3, 4, 5, 6, 7, 8, 9] == [row.computed for row in NOCACHE.rows]
    assert [3, 1, 1, 1, 1, 1, 1] == [row.computed for row in CACHED.rows]
    assert [0, 3, 4, 5, 6, 7, 8] == [row.begin for row in CACHED.rows]
    assert ("42 positions computed for 7 new tokens", 9) == (NOCACHE.total, CACHED.computed)


def test_a_lost_cache_is_rebuilt_in_one_pass() -> None:
    lost = panel("interrupted", 3, 7, Interruptions((4,)))
    assert [3, 1, 1, 1, 7, 1, 1] == [row.computed for row in lost.rows]


def test_a_kept_cache_takes_the_message_and_the_newest_token() -> None:
    resumed = panel("resumed", 3, 7, Interruptions((4,), (11, 12)))
    assert [3, 1, 1, 1, 3, 1, 1] == [row.computed for row in resumed.rows]
    assert [0, 3, 4, 5, 6, 9, 10] == [row.begin for row in resumed.rows]


@pytest.mark.parametrize("theme", THEMES)
def test_every_position_is_one_cell_of_its_colour(theme: str) -> None:
    document, colours = svg([NOCACHE, CACHED], TOKENS, theme), THEMES[theme]
    ElementTree.fromstring(document)
    assert (42, 9) == (rectangles(document, colours.again), rectangles(document, colours.once))
    assert 42 - 9 == rectangles(document, colours.cached)


def test_a_picture_loads_nothing_and_obeys_no_token() -> None:
    document = svg([CACHED], ["<script>", "&", "\x1b[2J", "]]>"])
    assert "<script" not in document
    assert "\x1b" not in document
    assert ["http://www.w3.org/2000/svg"] == re.findall(r"\w+://[^\s\"]+", document)
    ElementTree.fromstring(document)


def test_the_terminal_shows_a_line_per_pass() -> None:
    lines = terminal([NOCACHE, CACHED], TOKENS).splitlines()
    assert "step 6   9  ■■■■■■■■■  → token" in lines
    assert "step 6   1  ········■  → token" in lines
    assert lines[-1] == "9 positions computed for 7 new tokens"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_long_prompts_fit_the_terminal(width: int) -> None:
    text = terminal([panel("nocache", 1000, 100), panel("cached", 1000, 100)], (), width)
    lines = [line for line in text.splitlines() if FRESH in line or KEPT in line]
    assert all(len(line) <= width for line in lines)
    assert 2 * (MOST_ROWS - 1) == len(lines)
    assert "100,000" not in text
    assert f"{sum(range(1000, 1100)):,} positions computed for 100 new tokens" in text


def test_a_long_picture_draws_its_first_and_last_steps() -> None:
    document = svg([panel("cached", 4, 100)])
    assert ">step 99<" in document
    assert ">step 50<" not in document
