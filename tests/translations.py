"""Whether a sentence that the program writes into a record is wholly known to the catalogues of the other languages."""

from __future__ import annotations

from collections.abc import Iterable

from kvbench.language import LANGUAGES, speaking
from kvbench.report.languages.patterns import PATTERNS
from kvbench.report.sentences import recorded


def left_in_english(sentences: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those whose code has patterns and whose text fits none of them, as (code, text).

    A sentence that was changed is here until its pattern in `kvbench/report/languages/patterns.py` follows.
    """
    left = []
    for code, text in sentences:
        for language in LANGUAGES[1:]:
            with speaking(language):
                if code in PATTERNS and not recorded(code, text) and (code, text) not in left:
                    left.append((code, text))
    return left
