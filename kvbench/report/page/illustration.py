"""The picture of what a step computes without a cache and with one: a short example, and the counts of the run."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from kvbench.records.run_record import RunRecord
from kvbench.report.picture import panel, svg
from kvbench.report.sentences import say

MODES = ("nocache", "cached")
MOST_PROMPT_TOKENS, MOST_NEW_TOKENS = 4, 7  # of the example: what can be counted at a glance


@dataclass(frozen=True)
class Illustration:
    """An SVG for each theme, and one sentence on the run."""

    light: Markup
    dark: Markup
    sentence: str


def picture(record: RunRecord) -> Illustration | None:
    """Of a run that has both modes; its counts are those of the longest prompt. None for any other."""
    workload = record.workload
    if workload is None or not workload.prompt_tokens or not set(MODES) <= {arm.mode for arm in record.arms}:
        return None
    prompt, new = max(workload.prompt_tokens), workload.new_tokens
    without, cached = (panel(mode, prompt, new).computed for mode in MODES)
    example = [panel(mode, min(prompt, MOST_PROMPT_TOKENS), min(new, MOST_NEW_TOKENS)) for mode in MODES]
    return Illustration(
        light=Markup(svg(example, theme="light")),  # noqa: S704 - an SVG of our own, its words escaped
        dark=Markup(svg(example, theme="dark")),  # noqa: S704
        sentence=say(
            "picture.of-the-run",
            prompt=f"{prompt:,}",
            new=f"{new:,}",
            without=f"{without:,}",
            cached=f"{cached:,}",
        ),
    )
