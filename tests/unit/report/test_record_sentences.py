"""Sentences of the record are told in Chinese with every figure that they have, or not at all."""

import json
import re
from string import Formatter

import pytest
from translations import left_in_english

from kvbench.language import LANGUAGES, speaking
from kvbench.report.languages.patterns import PATTERNS
from kvbench.report.record_sentences import LONGEST, clauses_of, figures_of
from kvbench.report.sentences import CLAUSES, MEANINGS, checked, explained, recorded

from .test_languages import REFERENCE

CHINESE = LANGUAGES[1:]
LAUNCH = (
    "Steps of both modes take 15.0 ms and 12.9 ms, and the device works 4.29 ms and 3.45 ms of them; the rest goes into"
    " launching kernels, which below about 1,100 tokens of context hides what the cache saves. Try engine=compiled"
    " cache=static."
)


def sentences():
    """(code, text) of whatever the published records say."""
    for path in REFERENCE.rglob("run.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        for comparison in record["comparisons"]:
            yield from ((f"diagnosis.{each['code']}", each["text"]) for each in comparison.get("diagnosis", ()))
            yield "agreement", comparison["agreement"]["detail"]
        yield from ((f"check.{each['name']}", each["detail"]) for each in record["checks"])
        yield from ((f"warning.{each['code']}", each["detail"]) for each in record["warnings"])
        crossings = (record.get("growth") or {}).get("break_evens", ())
        yield from (("diagnosis.break_even", each["detail"]) for each in crossings)


class TestTheTemplates:
    @pytest.mark.parametrize("language", CHINESE)
    def test_are_one_for_each_clause_with_all_of_its_figures(self, language):
        wanted = {f"{code}.{clause}": figures_of(code, clause) for code in PATTERNS for clause in PATTERNS[code]}
        found = {
            code: {name for _, name, _, _ in Formatter().parse(text) if name}
            for code, text in CLAUSES[language].items()
            if code != "whole"
        }
        assert wanted == found
        words = {code: re.sub(r"\{\w+\}", "", text) for code, text in CLAUSES[language].items()}
        assert {"whole", "check.agreement.arm", "check.rescore.arm", "agreement.attention"} == {
            code for code, text in words.items() if not re.search("[一-鿿]", text)
        }

    def test_have_codes_of_the_record(self):
        assert set() == PATTERNS.keys() - MEANINGS["zh-CN"].keys() - {"agreement"}

    def test_show_the_same_figures_whatever_the_wording(self):
        for code, clauses in PATTERNS.items():
            for clause, wordings in clauses.items():
                told = [{name for _, name, _, _ in Formatter().parse(each) if name} for each in wordings]
                assert [figures_of(code, clause)] * len(wordings) == told


class TestAKnownSentence:
    def test_is_told_with_its_figures_and_without_its_english(self):
        with speaking("zh-CN"):
            assert (
                "两组的一步用时 15.0 ms 和 12.9 ms，其中设备只工作 4.29 ms 和 3.45 ms，其余时间耗在 CPU 启动 kernel "
                "上；上下文短于约 1,100 个词元时，缓存省下的时间被它掩盖。可以试试 engine=compiled cache=static。"
            ) == explained("diagnosis.launch", LAUNCH)
        with speaking("zh-TW"):
            assert "15.0 ms 和 12.9 ms" in explained("diagnosis.launch", LAUNCH)

    def test_is_itself_in_english(self):
        assert LAUNCH == explained("diagnosis.launch", LAUNCH)

    def test_of_the_published_records_leaves_nothing_in_english(self):
        told = list(sentences())
        assert len({code for code, _ in told}) > 20
        assert [] == left_in_english(told)

    def test_may_be_a_list(self):
        with speaking("zh-CN"):
            said = explained("check.agreement", "cached EQUAL_WITHIN_ROUNDING; nocache_naive IDENTICAL")
        assert "cached：相同，只有舍入误差；nocache_naive：相同。" == said


class TestAnUnknownSentence:
    @pytest.mark.parametrize(
        "text",
        [
            LAUNCH.replace("hides", "conceals"),
            LAUNCH + " And more.",
            "Perhaps: " + LAUNCH,
            LAUNCH.replace("15.0 ms", "a while"),
            "",
            "A step of " + "x" * LONGEST,
        ],
    )
    def test_is_its_general_meaning_and_its_own_words(self, text):
        with speaking("zh-CN"):
            said = explained("diagnosis.launch", text)
            assert said.startswith("单步大多耗在 CPU 启动 kernel 上")
            assert (f"〔英文记录：{text}〕" if text else "") in said
            assert "" == recorded("diagnosis.launch", text)

    def test_of_no_code_is_none(self):
        assert clauses_of("diagnosis.unheard_of", LAUNCH) is None

    def test_one_of_a_list_leaves_the_whole_list_as_it_is(self):
        with speaking("zh-CN"):
            said = explained("check.agreement", "cached IDENTICAL; nocache_naive looks odd")
        assert said.endswith("〔英文记录：cached IDENTICAL; nocache_naive looks odd〕")


class TestACheck:
    def test_that_passed_says_what_holds_and_no_consequence(self):
        with speaking("zh-CN"):
            known = checked("blocks", "8 blocks measured, a verdict needs 5", "", passed=True)
            unknown = checked("blocks", "enough of them", "", passed=True)
        assert "测了 8 个测量块，得出结论至少需要 5 个。" == known
        assert "测量块数足以得出结论。〔英文记录：enough of them〕" == unknown

    def test_that_failed_says_what_is_wrong_and_what_to_do(self):
        with speaking("zh-CN"):
            known = checked("blocks", "3 blocks measured, a verdict needs 5", "raise measure.blocks", passed=False)
            unknown = checked("blocks", "too few", "raise measure.blocks", passed=False)
        advice = "测量块太少，不足以得出结论：请增大 measure.blocks。"
        assert f"测了 3 个测量块，得出结论至少需要 5 个。{advice}" == known
        assert f"{advice}〔英文记录：too few → raise measure.blocks〕" == unknown

    def test_in_english_is_the_records_sentence_with_its_advice(self):
        assert "too few → more" == checked("blocks", "too few", "more", passed=False)
        assert "enough" == checked("blocks", "enough", "", passed=True)
