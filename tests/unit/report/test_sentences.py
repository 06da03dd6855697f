"""Every sentence of the page has its code in one catalogue, and no code waits for a sentence that is gone."""

import re
from pathlib import Path
from string import Formatter

import kvbench.report
from kvbench.report.sentences import ENGLISH, counted, listed, say

ROOM = Path(kvbench.report.__file__).parent
SOURCES = [path for kind in ("*.py", "*.j2") for path in ROOM.rglob(kind) if path.name != "sentences.py"]
CODE = re.compile(r"""["']([a-z]+\.[\w.-]*(?:\{[^}]*\})?[\w.-]*)["']""")


def test_every_code_that_is_said_is_in_the_catalogue_and_the_other_way_round():
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    said = set(re.findall(r"""say\(\s*["']([^"'{]+)["']""", text))
    assert set() == said - set(ENGLISH)
    beginnings = tuple(re.findall(r"""f["']([a-z-]+\.)\{""", text)) + tuple(
        f"{code}." for code in re.findall(r"""counted\(\s*["']([^"']+)["']""", text)
    )
    mentioned = {code for code in ENGLISH if f'"{code}"' in text or f"'{code}'" in text}
    assert set() == {code for code in ENGLISH if code not in mentioned and not code.startswith(beginnings)}


def test_a_sentence_takes_its_figures_by_name():
    for code, text in ENGLISH.items():
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
        assert all(name.isidentifier() for name in names), code
    assert "cached is slower: it decodes 0.5× as fast as nocache." == say(
        "answer.SLOWER", candidate="cached", baseline="nocache", figure="0.5×"
    )


def test_counts_and_lists_read_as_words():
    assert ("1 warning", "1,200 warnings") == (counted("warnings", 1), counted("warnings", 1200))
    assert ("a", "a and b", "a, b and c") == (listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"]))
