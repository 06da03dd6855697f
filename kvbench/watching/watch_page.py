"""A watch as one small HTML page that needs nothing from anywhere."""

from __future__ import annotations

from jinja2 import Environment

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
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
td, th { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884; font-weight: normal }
td:first-child, th:first-child { text-align: left }
th { opacity: .7 } rect { fill: #2a78c2 } li { margin: .4rem 0 } .small { opacity: .7; font-size: .9rem }
</style>
<h1>{{ record.model }}</h1>
<p>{{ record.dtype }} on {{ record.device }}, {{ "{:,}".format(record.passes | length) }} forward passes</p>
{% for title, sentences in parts if sentences %}<h2>{{ title }}</h2>
<ul>{% for each in sentences %}<li>{{ each }}</li>{% endfor %}</ul>
{% endfor %}{% if bars %}<h2>Positions submitted by each pass</h2>
<svg viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="At most {{ most }} positions">
{% for x, w, h in bars %}<rect x="{{ x }}" y="{{ height - h }}" width="{{ w }}" height="{{ h }}"/>{% endfor %}
</svg><p class="small">The highest bar is {{ "{:,}".format(most) }} positions per sequence{{ shown }}.</p>
{% endif %}{% if rows %}<table><tr>{% for each in head %}<th>{{ each }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for each in row %}<td>{{ each }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
<p class="small">Watching took {{ "%.2f" | format(100 * record.cost_share) }} % of the time.</p>
</html>
"""


def page(record: WatchRecord) -> str:
    """The page, everything in it escaped."""
    shown = record.passes[:MOST_BARS]
    most = max((each.submitted for each in shown), default=0)
    step = WIDTH / max(1, len(shown))
    bars = [
        (round(number * step, 2), round(max(step - 1, 0.5), 2), round(max(1.0, HEIGHT * each.submitted / most), 2))
        for number, each in enumerate(shown)
        if most
    ]
    return Environment(autoescape=True).from_string(PAGE).render(
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
