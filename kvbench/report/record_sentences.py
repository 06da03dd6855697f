"""Sentences of the record in another language: whole where their clauses are known, with every figure as recorded.

A sentence counts as known only if its clauses cover it from the first letter to the last; of any other, nothing is
guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from string import Formatter

from kvbench.report.languages.patterns import PATTERNS

_NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
_FIGURE = rf"{_NUMBER}(?: ?[%×]| ?[A-Za-zµ/]+)?"
_NAME = r"(?!the )[^:;]{1,80}?"
_KEY = r"[\w.]+=[\w.,\[\]-]+"
KINDS: Mapping[str, str] = {
    "": _FIGURE,  # such as `12.5 ms` or `9.1 %`
    "number": _NUMBER,
    "figures": rf"{_FIGURE}(?: and {_FIGURE})?",
    "interval": rf"{_FIGURE}(?: \[{_NUMBER}, {_NUMBER}\])?",
    "name": _NAME,  # of an arm or a mode
    "names": rf"{_NAME}",
    "word": r"[\w.+-]+",
    "keys": rf"{_KEY}(?: {_KEY})*",
    "arms": r"\{[^{}]{1,120}\}(?: and \{[^{}]{1,120}\})?",
    "command": r"[^`]{1,120}",
    "text": r"[^;]{1,200}?",
    "output": r"IDENTICAL|EQUAL_WITHIN_ROUNDING|quantised\scache",
    "verdict": "FASTER|SLOWER|SAME|AMBIGUOUS|INVALID",
}
LONGEST = 1000  # characters: no sentence of ours is longer


def clauses_of(code: str, text: str) -> list[tuple[str, dict[str, tuple[str, str]]]] | None:
    """The clauses of a sentence with their figures as (kind, text), in its order; None unless they cover all of it."""
    if code not in PATTERNS or not text or len(text) > LONGEST:
        return None
    found = _pattern(code).fullmatch(text.removesuffix("."))
    if found is None:
        return None
    told: dict[str, dict[str, tuple[str, str]]] = {}
    for group, (clause, name, kind) in _groups(code).items():
        if (value := found[group]) is not None:
            figures = told.setdefault(clause, {})
            if name:
                figures[name] = (kind, value)
    return list(told.items())


def translated(
    code: str, text: str, template: Callable[[str], str], shown: Callable[[str, str], str], between: str
) -> str:
    """A sentence by the templates of its clauses, or a list of such sentences; empty where it is not known.

    `template` gives the template of a code and clause, `shown` the text of a figure of a kind, `between` joins a list.
    """

    def one(part: str) -> str:
        clauses = clauses_of(code, part)
        return "".join(
            template(f"{code}.{clause}").format(**{name: shown(kind, value) for name, (kind, value) in figures.items()})
            for clause, figures in clauses or ()
        )

    whole = one(text)
    parts = [whole] if whole else [one(part) for part in text.split("; ")]
    return between.join(parts) if all(parts) else ""


def figures_of(code: str, clause: str) -> set[str]:
    """The figures that the template of a clause has to show."""
    return {name for group in _groups(code).values() if group[0] == clause and (name := group[1])}


@cache
def _pattern(code: str) -> re.Pattern[str]:
    parts = []
    for place, wordings in enumerate(PATTERNS[code].values()):
        any_of = "|".join(_expression(wording, f"_{place}_{number}") for number, wording in enumerate(wordings))
        parts.append(f"(?:{any_of})?")
    return re.compile("".join(parts))


@cache
def _groups(code: str) -> Mapping[str, tuple[str, str, str]]:
    """Name of a regular expression's group to (clause, name of the figure, its kind); a wording itself has no name."""
    found = {}
    for place, (clause, wordings) in enumerate(PATTERNS[code].items()):
        for number, wording in enumerate(wordings):
            end = f"_{place}_{number}"
            found[f"_{end}"] = (clause, "", "")
            found |= {f"{name}{end}": (clause, name, kind or "") for _, name, kind in _parts(wording) if name}
    return found


def _expression(wording: str, end: str) -> str:
    text = ""
    for literal, name, kind in _parts(wording):
        text += re.escape(literal)
        if kind is not None:
            text += f"(?P<{name}{end}>{KINDS[kind]})" if name else f"(?:{KINDS[kind]})"
    return f"(?P<_{end}>{text})"


def _parts(wording: str) -> Iterator[tuple[str, str, str | None]]:
    """(words, name of the figure behind them, its kind); the kind is None where there is no figure."""
    for literal, name, kind, _ in Formatter().parse(wording):
        yield literal, name or "", kind if name is not None else None
