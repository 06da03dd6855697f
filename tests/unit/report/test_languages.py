"""The terminal and the page speak one language: every sentence is in every catalogue, and none is left in English."""

import ast
import io
import json
import re
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest
from rich.cells import cell_len
from rich.console import Console

import kvbench
from kvbench.capabilities import CACHES, ENGINES, MODES
from kvbench.language import LANGUAGES, VARIABLE, speaking, spoken
from kvbench.records.arm_figures import Bound
from kvbench.records.part import Better, Group
from kvbench.records.run_record import Status
from kvbench.records.scaling import Order
from kvbench.records.store import read_record
from kvbench.report.charts.figures import PARTS
from kvbench.report.console import answer, comparison_table, run_row, runs_table, verdict_panel
from kvbench.report.metrics import METRICS
from kvbench.report.page.html import build
from kvbench.report.prose import NO_BEGIN, NO_END, Text
from kvbench.report.sentences import CATALOGUES, MEANINGS, listed, say
from kvbench.report.verdicts import HEADLINES

from .chart_records import grown
from .records import failed, interrupted, invalid, one_arm, two_arms, write_run
from .test_headline import conversation
from .test_html import Page

PACKAGE = Path(kvbench.__file__).parent
REFERENCE = PACKAGE.parent / "docs" / "measured" / "records"
ENGLISH, CHINESE = LANGUAGES[0], LANGUAGES[1:]
OWN_WORDS = re.compile(r"〔(?:英文记录|紀錄（英文）)：.*?〕", re.DOTALL)


def figures_of(text):
    return sorted({name for _, name, _, _ in Formatter().parse(text) if name is not None})


class TestTheCatalogues:
    @pytest.mark.parametrize("language", CHINESE)
    def test_say_the_same_with_the_same_figures(self, language):
        english, other = CATALOGUES[ENGLISH], CATALOGUES[language]
        assert english.keys() == other.keys()
        assert {} == {code: other[code] for code in english if figures_of(english[code]) != figures_of(other[code])}

    def test_explain_the_same_with_the_same_figures(self):
        first, second = (MEANINGS[language] for language in CHINESE)
        assert first.keys() == second.keys()
        assert [figures_of(text) for text in first.values()] == [figures_of(second[code]) for code in first]

    @pytest.mark.parametrize("language", CHINESE)
    def test_leave_no_sentence_untranslated(self, language):
        own = {"commit", "git commit", ""}
        same = {
            code
            for code, text in CATALOGUES[language].items()
            if text == CATALOGUES[ENGLISH][code]
            and re.sub(r"\{\w+\}", "", text) not in own
            and re.search("[a-z]", text)
        }
        assert set() == same
        assert all(re.search("[一-鿿]", text) for text in MEANINGS[language].values())

    def test_are_of_two_places_and_no_conversion_of_characters(self):
        mainland, taiwan = (
            "".join((*CATALOGUES[language].values(), *MEANINGS[language].values())) for language in CHINESE
        )
        for here, there in (
            ("缓存", "快取"),
            ("内存", "記憶體"),
            ("运行", "執行"),
            ("进程", "行程"),
            ("置信区间", "信賴區間"),
        ):
            assert (here in mainland, there in taiwan) == (True, True)
        assert not set("缓内运进设备机这个们时间检查") & set(taiwan) - set("內個備查")
        assert not set("緩內運進設備機這個們時間檢") & set(mainland)


def codes_of_warnings():
    """Of every `RunWarning(code=…)` of the package; where the code is a variable, from the table that it runs over."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, (ast.FunctionDef, ast.Module)):
                found |= set(_codes_in(function))
    return found


def _codes_in(scope):
    for call in ast.walk(scope):
        if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "RunWarning"):
            continue
        (code,) = [each.value for each in call.keywords if each.arg == "code"]
        if isinstance(code, ast.Name):
            rows = [each for each in ast.walk(scope) if isinstance(each, ast.Tuple) and len(each.elts) == 3]
            yield from {row.elts[0].value for row in rows if isinstance(row.elts[0], ast.Constant)}
        yield from {each.value for each in ast.walk(code) if isinstance(each, ast.Constant)}


def codes_of_the_diagnosis():
    text = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "analysis" / "diagnosis").glob("*.py"))
    return set(re.findall(r'\.sentence\(\s*"(\w+)"', text))


def names_of_checks():
    text = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "analysis").glob("*.py"))
    assert 1 == len(re.findall(r'Check\(\s*name=f"', text))  # the audits
    from kvbench.analysis.audits import ADVICE

    return set(re.findall(r'Check\(\s*name="(\w+)"', text)) | {f"audit_{name}" for name in ADVICE}


def phases():
    text = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    table = (PACKAGE / "running" / "job.py").read_text(encoding="utf-8")
    return set(re.findall(r'Progress\(\s*"([^"]+)"', text)) | set(re.findall(r'\("([a-z][^"]*)", self\._', table))


class TestTheRecordsOwnWords:
    @pytest.mark.parametrize("language", CHINESE)
    def test_every_code_of_the_record_has_its_meaning_and_no_meaning_is_left_over(self, language):
        found = {
            "warning": codes_of_warnings(),
            "diagnosis": codes_of_the_diagnosis(),
            "check": names_of_checks(),
            "figure": {metric.key for metric in METRICS},
            "computed": {metric.key for metric in METRICS},
        }
        assert all(len(codes) > 8 for codes in found.values())
        wanted = {f"{kind}.{code}" for kind, codes in found.items() for code in codes}
        wanted |= {f"check.{name}.failed" for name in found["check"]}
        wanted |= {f"name.{code}" for code in found["check"] | found["warning"]}
        assert wanted == MEANINGS[language].keys() - {"break-even"}

    def test_every_word_of_the_record_that_is_shown_has_a_sentence(self):
        words = {
            "word": {*(status.upper() for status in get_args(Status) if status != "ok"), "VALID"},
            "order": set(get_args(Order)),
            "bound": set(get_args(Bound)),
            "limits": set(get_args(Bound)),
            "group": set(get_args(Group)),
            "better": set(get_args(Better)) - {"none"},
            "phase": phases(),
            "preparation": {"preparing", *(engine.preparation for engine in ENGINES.values())},
            "part": {name.replace(" ", "-") for name in PARTS},
            "outcome": {"fits", "oom", "infeasible"},
            "finish": {"stop", "length"},
        }
        assert "blocks" in words["phase"]
        assert len(words["phase"]) > 15
        wanted = {f"{kind}.{word}" for kind, each in words.items() for word in each}
        assert set() == wanted - CATALOGUES[ENGLISH].keys()


def records():
    """One of every kind: made by hand, and measured."""
    for name in ("growth", "frontier", "best-arms", "diagnosed", "engines"):
        yield name, read_record(min((REFERENCE / f"nvidia-h100-gemma2b-random-{name}").rglob("run.json")))
    yield from (("two arms", two_arms()), ("one arm", one_arm()), ("invalid", invalid()), ("laws", grown()))
    yield from (("out of memory", failed()), ("interrupted", interrupted()), ("turns", conversation()))


RECORDS = dict(records())
# What stays in Latin letters: names, keys, units and codes.
NAMES = re.compile(
    r"`[^`]*`|[\w./-]*[._=/][\w./=-]*|\([a-z_0-9, +]*\)|\[.*?\]|\b(?:"
    + "|".join(
        (*MODES, *CACHES, *ENGINES, "logits?", "commit", "torch", "kvbench", "report", "python", "nats", "block")
    )
    + r")\b"
)
SENTENCE = re.compile(r"[A-Za-z]{2,}(?:[ ,]+[a-z]{2,}){2,}")


def english_in(text):
    """English sentences that are not marked as the record's own."""
    return SENTENCE.findall(NAMES.sub(" · ", OWN_WORDS.sub(" · ", text)))


def terminal_of(record, language, width=80):
    file = io.StringIO()
    console = Console(file=file, width=width)
    with speaking(language):
        for part in (comparison_table(record), verdict_panel(record), answer(record), runs_table([run_row(record)])):
            console.print(part)
    return file.getvalue()


class TestTheTerminal:
    @pytest.mark.parametrize("name", RECORDS)
    @pytest.mark.parametrize("language", CHINESE)
    def test_says_nothing_in_english_but_the_records_own_words(self, language, name):
        # Wide enough that no sentence is broken in two.
        assert [] == english_in(terminal_of(RECORDS[name], language, width=4000))

    @pytest.mark.parametrize("name", RECORDS)
    def test_stays_within_eighty_columns_and_cuts_nothing(self, name):
        for language in CHINESE:
            text = terminal_of(RECORDS[name], language)
            assert 80 >= max(cell_len(line) for line in text.splitlines())
            assert "…" not in text

    def test_puts_the_plain_word_beside_the_code(self):
        assert "FASTER（更快）：cached (dynamic) 的解码速度是 nocache 的" in terminal_of(two_arms(), "zh-CN", 400)
        assert "VALID（有效），1 項警告" in terminal_of(two_arms(), "zh-TW", 400)

    def test_a_run_is_followed_in_its_language_and_its_record_stays_english(self, tmp_path, capsys):
        from kvbench.__main__ import main

        short = ("model=scripted", "launch=inline", "report=false", "stream.interval=0", "workload.new_tokens=4")
        assert 0 == main([*short, "measure.blocks=6", f"results_dir={tmp_path}", "language=zh-CN"])
        seen = capsys.readouterr().out
        assert 80 >= max(cell_len(line.rstrip()) for line in seen.splitlines() if "file://" not in line)
        assert [] == english_in(re.sub(r"\s*\n\s*", " ", OWN_WORDS.sub("", seen)))
        assert "第一次生成 …" in seen
        (record,) = tmp_path.rglob("run.json")
        assert not re.search("[一-鿿]", record.read_text(encoding="utf-8"))


class TestProse:
    TEXT = "缓存（cache）占用 87.5 KiB，每个词元增加 1.25 KiB；“没有缓存”的一步，要重新提交 128 个词元。" * 3

    @pytest.mark.parametrize("width", [9, 20, 33, 80])
    def test_lines_are_full_and_obey_the_rules_of_punctuation(self, width):
        lines = [line.plain for line in Text(self.TEXT).wrap(Console(), width)]
        assert self.TEXT.replace(" ", "") == "".join(lines).replace(" ", "")
        assert width >= max(map(cell_len, lines))
        assert not [line for line in lines[1:] if line[0] in NO_BEGIN]
        assert not [line for line in lines if line[-1] in NO_END]
        # No line is left half empty for want of a space, as rich would do.
        assert width < 20 or all(cell_len(line) > width - 14 for line in lines[:-1])

    def test_a_word_wider_than_the_line_is_broken_where_the_line_is_full(self):
        lines = [line.plain for line in Text("见 abcdefghijklmnopqrstuvwxyz 。").wrap(Console(), 10)]
        assert ["见", "abcdefghij", "klmnopqrst", "uvwxyz 。"] == lines

    def test_english_breaks_as_it_did(self):
        text = "a step of cached takes 3.21 ms on this machine"
        plain = __import__("rich.text").text.Text(text).wrap(Console(), 14)
        assert [line.plain for line in plain] == [line.plain for line in Text(text).wrap(Console(), 14)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page over one run of every kind, and one over several, in each language."""
    folder = tmp_path_factory.mktemp("pages")
    runs = {name: write_run(record, folder / name) for name, record in RECORDS.items()}

    def page(language, *names):
        path = folder / f"{language}-{'-'.join(names)}.html"
        if not path.exists():
            with speaking(language):
                build([runs[name] for name in names], path, folders=[folder])
        return path

    return page


SHOWN = [
    ("two arms",),
    ("turns",),
    ("growth",),
    ("frontier",),
    ("invalid",),
    ("best-arms",),
    ("two arms", "invalid", "engines"),
]


class TestThePage:
    @pytest.mark.parametrize("names", SHOWN, ids="-".join)
    def test_says_nothing_in_english_but_the_records_own_words(self, pages, names):
        page = Page(pages("zh-CN", *names))
        spoken_of = [value for _, attributes in page.tags for key, value in attributes.items() if key == "aria-label"]
        titles = [value for _, attributes in page.tags for key, value in attributes.items() if key == "title"]
        drawn = [_strings(json.loads(page.scripts[0]))]
        text = [each for each in page.text if each.strip() not in TEXTS and not FACT.search(each)]
        for where in (text, spoken_of, titles, *drawn):
            assert [] == [found for each in where for found in english_in(each)]

    def test_names_its_language(self, pages):
        for language in LANGUAGES:
            (html,) = [attributes for tag, attributes in Page(pages(language, "two arms")).tags if tag == "html"]
            assert {"lang": language} == html

    def test_hands_its_words_to_its_scripts(self, pages):
        texts = {language: pages(language, "two arms").read_text(encoding="utf-8") for language in LANGUAGES}
        for language, text in texts.items():
            (words,) = re.findall(r'<script type="application/json" id="words">(.*?)</script>', text)
            assert CATALOGUES[language]["script.copied"] == json.loads(words)["copied"]

    def test_leaves_nothing_behind_for_the_next_page(self, pages):
        pages("zh-TW", "two arms")
        assert ENGLISH == spoken()
        assert "same output, up to rounding" in pages(ENGLISH, "two arms").read_text(encoding="utf-8")


# What the model wrote and was asked, and the values of the record's own tables.
TEXTS = {"What is a KV cache?", "a b c"}
FACT = re.compile(r"^[^一-鿿]*$")


def _strings(value):
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for part in inside for each in _strings(part)]


class TestTheLanguageSpoken:
    def test_is_that_of_the_variable_unless_one_is_asked_for(self, monkeypatch):
        monkeypatch.setenv(VARIABLE, "zh-TW")
        with speaking(None):
            assert ("zh-TW", "甲 和 乙") == (spoken(), listed(["甲", "乙"]))
            with speaking("en"):
                assert "a and b" == listed(["a", "b"])
            assert "1 項警告" == say("warnings.one")
        assert ENGLISH == spoken()

    def test_a_language_that_there_is_not_is_one_line(self, monkeypatch, capsys):
        from kvbench.__main__ import main

        monkeypatch.setenv(VARIABLE, "fr")
        assert 2 == main(["show", str(REFERENCE / "nvidia-h100-gemma2b-random-engines")])
        assert "KVBENCH_LANG=fr: not known; allowed: en, zh-CN, zh-TW" in (line := capsys.readouterr().err)
        assert 1 == line.count("\n")

    def test_the_key_that_was_meant_is_told(self, capsys):
        from kvbench.__main__ import main

        assert 2 == main(["report.language=zh-CN"])
        assert "did you mean language=zh-CN?" in capsys.readouterr().err
        assert 2 == main(["language=zh_cn"])
        assert "did you mean language=zh-CN?" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["show --json", "export --format md", "export --format csv", "compare"])
    def test_what_machines_read_stays_english(self, monkeypatch, capsys, command):
        from kvbench.__main__ import main

        name, *options = command.split()
        run = str(REFERENCE / "nvidia-h100-gemma2b-random-growth")
        answers = []
        for language in (ENGLISH, "zh-CN"):
            monkeypatch.setenv(VARIABLE, language)
            main([name, run, *([run] if name == "compare" else []), *options])
            answers.append(capsys.readouterr().out)
        assert answers[0] == answers[1] != ""


def test_every_kind_of_run_was_shown():
    from kvbench.report.verdicts import run_kind

    assert HEADLINES.keys() == {run_kind(record) for record in RECORDS.values()}
