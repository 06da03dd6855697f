"""What the terminal and the page say in sentences of their own: one code per sentence, with its figures as arguments.

Every language has a catalogue with the same codes. Sentences that rest on figures of the record (the diagnosis,
checks, warnings, reasons) come from the record itself, which is English. In another language they are told with their
figures where every clause of them is known; else a sentence says what the code means, and the record's own words follow
it in brackets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvbench.language import ENGLISH, spoken
from kvbench.report.languages import english, simplified, simplified_record, traditional, traditional_record
from kvbench.report.record_sentences import translated

CATALOGUES: Mapping[str, Mapping[str, str]] = {
    ENGLISH: english.SENTENCES,
    "zh-CN": simplified.SENTENCES,
    "zh-TW": traditional.SENTENCES,
}
# What the record's own sentences and figures mean, for those who do not read them.
MEANINGS: Mapping[str, Mapping[str, str]] = {
    "zh-CN": simplified_record.MEANINGS,
    "zh-TW": traditional_record.MEANINGS,
}
# The clauses of the record's sentences.
CLAUSES: Mapping[str, Mapping[str, str]] = {
    "zh-CN": simplified_record.CLAUSES,
    "zh-TW": traditional_record.CLAUSES,
}


def say(code: str, **figures: object) -> str:
    """The sentence of a code with its figures, in the language that is spoken."""
    return CATALOGUES[spoken()][code].format(**figures)


def is_said(code: str) -> bool:
    """Whether there is a sentence of this code: records of other versions may hold words that are not known."""
    return code in CATALOGUES[ENGLISH]


def in_scripts() -> dict[str, str]:
    """What the page's scripts say, by the end of its code."""
    catalogue = CATALOGUES[spoken()]
    return {code.removeprefix("script."): text for code, text in catalogue.items() if code.startswith("script.")}


def meaning(code: str, **figures: object) -> str:
    """What something of the record means; empty in English, the record's language, and for codes that are not known."""
    template = MEANINGS[spoken()].get(code, "") if spoken() in MEANINGS else ""
    return template.format(**figures)


def own_words(text: str) -> str:
    """A sentence of the record, marked as such where another language is spoken."""
    return say("record.words", text=text) if text else ""


def recorded(code: str, text: str) -> str:
    """A sentence of the record with its figures; empty in English, and where it is not wholly known."""
    if spoken() not in CLAUSES:
        return ""
    clauses = CLAUSES[spoken()]
    said = translated(code, text, clauses.__getitem__, _shown, say("between.reasons"))
    return clauses["whole"].format(clauses=said) if said else ""


def _shown(kind: str, value: str) -> str:
    """A figure or a word of the record, as it is shown."""
    if kind == "output":
        return output_word(value)
    if kind == "verdict":
        return word(value)
    names, conjunction, last = value.rpartition(" and ") if kind in ("figures", "names", "arms") else ("", "", value)
    return say("between.last", names=names, last=last) if conjunction else value


def explained(code: str, text: str) -> str:
    """A sentence of the record: with its figures, or in its own words after what its code means."""
    return recorded(code, text) or joined(meaning(code), own_words(text))


def diagnosed(code: str, text: str) -> str:
    """A sentence of the diagnosis; one that repeats a failed check means what that means."""
    check = code.removeprefix("check_")
    if check != code:
        return joined(meaning(f"check.{check}.failed"), own_words(text))
    return explained(f"diagnosis.{code}", text)


def checked(name: str, detail: str, advice: str, *, passed: bool) -> str:
    """What a check found; of one that failed, also what that means and what to do."""
    if passed:
        return explained(f"check.{name}", detail)
    found = recorded(f"check.{name}", detail)
    own = "" if found else own_words(f"{detail} → {advice}" if advice else detail)
    return joined(found, meaning(f"check.{name}.failed"), own)


def named(code: str) -> str:
    """The code of a check or a warning, in other languages than English with its plain word."""
    return meaning(f"name.{code}") or code


def counted(code: str, count: int, **figures: object) -> str:
    """The sentence `code.one` or `code.many`."""
    return say(f"{code}.one", **figures) if count == 1 else say(f"{code}.many", count=f"{count:,}", **figures)


def joined(*sentences: str) -> str:
    """Sentences one after another, empty ones left out."""
    return say("between.sentences").join(filter(None, sentences))


def enumerated(names: Sequence[str]) -> str:
    """Such as `a, b, c`."""
    return say("between.names").join(names)


def listed(names: Sequence[str]) -> str:
    """Such as `a, b and c`."""
    return names[0] if len(names) == 1 else say("between.last", names=enumerated(names[:-1]), last=names[-1])


def percent(share: float) -> str:
    """A share such as `5 %`."""
    return f"{100 * share:g} %"


def word(code: str) -> str:
    """A verdict or a status, in other languages than English with its plain word; an unknown one as it is."""
    return say(f"word.{code}") if is_said(f"word.{code}") else code


def output_word(agreement: str) -> str:
    """The verdict on an arm's output in plain words, such as `same output, up to rounding`."""
    code = f"output.{agreement}"
    return say(code) if is_said(code) else agreement
