"""A watch as one small HTML page that needs nothing from anywhere, and as a piece of a notebook."""

from __future__ import annotations

from jinja2 import Environment
from markupsafe import Markup

from kvbench.watching.told import HEAD, row_of
from kvbench.watching.watch_record import WatchRecord

MOST_ROWS = 200
WIDTH, HEIGHT = 640, 160  # of the chart: positions submitted by each pass
MOST_BARS = 320

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>kvbench watch: {{ record.model }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
</style>
{{ watched }}
</html>
"""
# Shown within somebody else's page: every rule is for our own class alone, and colours are those around it.
FRAGMENT = """<div class="kvbench-watch">
<style>
.kvbench-watch { max-width: 60rem }
.kvbench-watch table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
.kvbench-watch :is(td, th) {
  padding: .2rem .6rem; text-align: right; border: 0; border-bottom: 1px solid #8884; font-weight: normal
}
.kvbench-watch :is(td, th):first-child { text-align: left }
.kvbench-watch th { opacity: .7 }
.kvbench-watch rect { fill: #2a78c2 }
.kvbench-watch li { margin: .4rem 0 }
.kvbench-watch .small { opacity: .7; font-size: .9em }
</style>
<h2>{{ record.model }}</h2>
<p>{{ record.dtype }} on {{ record.device }}, {{ "{:,}".format(record.passes | length) }} forward passes</p>
{% for title, sentences in parts if sentences %}<h3>{{ title }}</h3>
<ul>{% for each in sentences %}<li>{{ each }}</li>{% endfor %}</ul>
{% endfor %}{% if bars %}<h3>Positions submitted by each pass</h3>
<svg viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="At most {{ most }} positions">
{% for x, w, h in bars %}<rect x="{{ x }}" y="{{ height - h }}" width="{{ w }}" height="{{ h }}"/>{% endfor %}
</svg><p class="small">The highest bar is {{ "{:,}".format(most) }} positions per sequence{{ shown }}.</p>
{% endif %}{% if rows %}<table><tr>{% for each in head %}<th>{{ each }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for each in row %}<td>{{ each }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
<p class="small">The watch's own code took {{ "%.2f" | format(100 * record.cost_share) }} % of the time.</p>
</div>
"""


def page(record: WatchRecord) -> str:
    """The whole page, everything in it escaped."""
    watched = Markup(fragment(record))  # noqa: S704 - escaped there
    return Environment(autoescape=True).from_string(PAGE).render(record=record, watched=watched)


def fragment(record: WatchRecord) -> str:
    """What a page or a notebook shows of it, everything in it escaped."""
    shown = record.passes[:MOST_BARS]
    most = max((each.submitted for each in shown), default=0)
    step = WIDTH / max(1, len(shown))
    bars = [
        (round(number * step, 2), round(max(step - 1, 0.5), 2), round(max(1.0, HEIGHT * each.submitted / most), 2))
        for number, each in enumerate(shown)
        if most
    ]
    return Environment(autoescape=True).from_string(FRAGMENT).render(
        record=record,
        parts=[
            (title, [each.text for each in record.findings if each.change is change])
            for title, change in (("What was seen", False), ("What to change", True))
        ],
        rows=[row_of(number, each) for number, each in enumerate(record.generations[:MOST_ROWS])],
        head=HEAD,
        bars=bars,
        most=most,
        shown="" if len(shown) == len(record.passes) else f"; the first {len(shown):,} passes are shown",
        width=WIDTH,
        height=HEIGHT,
    )  # fmt: skip
