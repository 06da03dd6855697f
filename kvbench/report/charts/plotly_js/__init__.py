"""Plotly's own drawing code for pages and pictures: the basic bundle, which has the two kinds of trace in use.

The package `plotly` ships only the full bundle, four times as large, so this one is kept here with its licence.
`tools/fetch_plotly.py` fetches it; `tests/unit/report/test_plotly_js.py` holds its version to that of the package.
"""

from __future__ import annotations

import re
from pathlib import Path

BUNDLE = Path(__file__).parent / "plotly-basic.min.js"
LICENCE = BUNDLE.with_name("LICENSE")


def bundle() -> str:
    """The code as a browser takes it."""
    return BUNDLE.read_text(encoding="utf-8")


def bundle_version() -> str:
    """What the bundle says that it is, such as `4.1.1`."""
    head = bundle()[:400]
    found = re.search(r"plotly\.js \(basic - minified\) v([\d.]+)", head)
    assert found is not None, head
    return found[1]
