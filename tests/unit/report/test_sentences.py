"""Every sentence of the terminal and the page has its code in the catalogue, and no code waits for one that is gone."""

import ast
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


def test_the_templates_have_no_words_of_their_own():
    for path in SCRIPTS.glob("*.j2"):
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        labels = re.findall(r'(?:aria-label|title)="([^"]*)"', text)
        words = re.sub(r"<style.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL)
        found = set(re.findall(r"[A-Za-z][\w.]+", " ".join((words, *labels))))
        assert set() == found - {"kvbench", "SVG", "PNG", "config.yaml"}, path.name


# Names of data, which are looked up and never shown.
DATA = {"too few runs", "one arm", "step peak", "allocator slack", "device context", "rest of the process", "bold red"}
# What the record itself would say, and is marked as its own words.
OF_THE_RECORD = {"the record gives no reason", "too few blocks for a verdict", "the run is "}


def test_no_code_of_the_report_has_a_sentence_of_its_own():
    outside = ("languages", "exports")  # exports are English
    found = set()
    for path in (PACKAGE / "report").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [] if set(outside) & set(path.parts) else list(ast.walk(tree))
        documented = (node for node in nodes if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)))
        told = {ast.get_docstring(node, clean=False) for node in documented}
        found |= {
            node.value
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in told
        }
    said = {text for text in found if re.search("[a-z]{2,} [a-z]{2,}", text) and not re.search(r"[<>;]|^pip ", text)}
    assert set() == said - DATA - OF_THE_RECORD


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
