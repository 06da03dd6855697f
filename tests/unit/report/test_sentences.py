"""Every sentence of the terminal and the page has its code in the catalogue, and no code waits for one that is gone."""

import re
from pathlib import Path

import kvbench
from kvbench.report.languages.english import SENTENCES
from kvbench.report.sentences import counted, enumerated, explained, in_scripts, listed, own_words, say, word

PACKAGE = Path(kvbench.__file__).parent
SOURCES = [path for kind in ("*.py", "*.j2") for path in PACKAGE.rglob(kind) if "languages" not in path.parts]
SCRIPTS = PACKAGE / "report" / "page" / "templates"


def test_every_code_that_is_said_is_in_the_catalogue_and_the_other_way_round():
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    said = set(re.findall(r"""\bsay\(\s*["']([a-z][\w-]*\.[^"'{]+)["']""", text))
    assert set() == said - set(SENTENCES)
    beginnings = tuple(re.findall(r"""\bf["']([a-z-]+\.[\w.-]*)\{""", text)) + tuple(
        f"{code}." for code in (*re.findall(r"""counted\(\s*["']([^"']+)["']""", text), "runs", "script")
    )
    mentioned = {code for code in SENTENCES if f'"{code}"' in text or f"'{code}'" in text}
    assert set() == {code for code in SENTENCES if code not in mentioned and not code.startswith(beginnings)}


def test_the_scripts_say_what_they_are_handed():
    text = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS.glob("*.js"))
    words = set(re.findall(r"words\.(\w+)", text)) | set(re.findall(r'words\["([\w-]+)"\]', text))
    said = {code for call in re.findall(r"\btell\((.*?)[,)]", text) for code in re.findall(r'"([\w-]+)"', call)}
    chosen = set(re.findall(r'"(left-[\w-]+)"', text))
    assert in_scripts().keys() == words | said | chosen


def test_a_sentence_takes_its_figures_by_name():
    assert "cached is slower: it decodes 0.5× as fast as nocache." == say(
        "answer.SLOWER", candidate="cached", baseline="nocache", figure="0.5×"
    )


def test_counts_and_lists_read_as_words():
    assert ("1 warning", "1,200 warnings") == (counted("warnings", 1), counted("warnings", 1200))
    assert ("a", "a and b", "a, b and c") == (listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"]))
    assert "a, b" == enumerated(["a", "b"])


def test_the_records_words_stand_as_they_are_in_its_own_language():
    assert (
        "the machine was busy"
        == own_words("the machine was busy")
        == explained("warning.noise", "the machine was busy")
    )
    assert "" == own_words("")
    assert ("FASTER", "NEWER_THAN_THIS") == (word("FASTER"), word("NEWER_THAN_THIS"))
