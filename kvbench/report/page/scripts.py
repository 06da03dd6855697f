"""The scripts of a page, and the policy that lets a browser run these and load nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from markupsafe import Markup
from plotly.offline import get_plotlyjs

OURS = ("charts.js", "clipboard.js", "table.js", "confidence.js", "page.js")


def scripts() -> tuple[Markup, ...]:
    """Plotly's own code, then ours in the order in which one builds on the other."""
    templates = files("kvbench.report.page") / "templates"
    ours = [(templates / name).read_text(encoding="utf-8") for name in OURS]
    return tuple(Markup(each) for each in (get_plotlyjs(), *ours))  # noqa: S704 - code, not a string of a run's


def content_policy(allowed: Sequence[str]) -> str:
    """Scripts by their digest alone, no eval, nothing loaded from or sent to anywhere.

    Styles may be inline: plotly writes style attributes and rules, which a digest cannot cover.
    """
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in allowed)
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; connect-src 'none';"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
