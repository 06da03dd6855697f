"""What the templates of this room share: how a value becomes text of a page, and the words that a template may say."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from kvbench.report.charts.figures import Chart
from kvbench.report.charts.still import still
from kvbench.report.sentences import joined, say, word
from kvbench.text import printable


def environment() -> Environment:
    """The templates, with everything in them escaped and made harmless to read."""
    made = Environment(
        loader=PackageLoader("kvbench.report.page"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"say": say, "still": _still, "word": word, "joined": joined}
    made.filters["coded"] = _coded
    return made


def _coded(sentence: str) -> Markup:
    """A sentence of ours in which `…` stands for code."""
    parts = escape(sentence).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def _still(chart: Chart) -> Markup:
    return Markup(still(chart))  # noqa: S704 - an SVG of our own, its words escaped


def _shown(value: Any) -> Any:
    """Every string on the page is made harmless to read before it is escaped; markup of our own stays."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
