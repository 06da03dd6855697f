"""One verdict on log-probabilities as one small HTML page that needs nothing from anywhere."""

from __future__ import annotations

from jinja2 import Environment
from markupsafe import Markup

from kvbench.language import spoken
from kvbench.records.rescoring import Rescore
from kvbench.report.charts.figures import looks
from kvbench.report.charts.rescore_chart import rescore_chart
from kvbench.report.charts.still import still
from kvbench.report.rescored import rescore_sentence
from kvbench.report.sentences import own_words, say

PAGE = """<!doctype html>
<html lang="{{ language }}"><meta charset="utf-8"><title>kvbench rescore: {{ name }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
td, th { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #8884; font-weight: normal }
th { opacity: .7 } svg { max-width: 100%; height: auto } .small { opacity: .7; font-size: .9rem }
</style>
<h1>{{ name }}</h1>
<p>{{ sentence }}</p>
{% if chart %}<h2>{{ chart.title }}</h2>
{{ drawing }}
<p class="small">{{ chart.caption }}</p>
<table><tr>{% for each in chart.numbers.heads %}<th>{{ each }}</th>{% endfor %}</tr>
{% for row in chart.numbers.rows %}<tr>{% for each in row %}<td>{{ each }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% if rests_on %}<p class="small">{{ rests_on }}</p>{% endif %}
</html>
"""


def page(found: Rescore, name: str) -> str:
    """The page, everything in it escaped; `name` says what was judged."""
    chart = rescore_chart([found], [name], looks([name]))
    return (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            language=spoken(),
            name=name,
            sentence=rescore_sentence(found, name),
            chart=chart,
            drawing=Markup(still(chart)) if chart else "",  # noqa: S704 - an SVG of our own, its words escaped
            rests_on="" if found.error is None else say("rescore.rests-on", detail=own_words(found.detail)),
        )
    )
