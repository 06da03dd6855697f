import unicodedata

import pytest

from kvbench.text import printable

EVERY_CHARACTER = [chr(code) for code in range(0x110000)]


def test_no_control_format_or_surrogate_character_of_the_first_planes_survives():
    survivors = {
        char
        for char in printable("".join(EVERY_CHARACTER))
        if unicodedata.category(char) in ("Cc", "Cs")
        or unicodedata.bidirectional(char) in ("RLO", "LRO", "RLE", "LRE", "RLI", "LRI", "FSI", "PDF", "PDI")
    }
    assert survivors == {"\t", "\n"}


def test_what_comes_back_can_be_encoded_and_stays_as_it_is():
    once = printable("".join(EVERY_CHARACTER))
    assert once.encode("utf-8").decode("utf-8") == once
    assert printable(once) == once


def test_letters_of_any_language_and_emoji_stay():
    text = "Grüße, 键值缓存 ключ कुंजी\t1+1=2\n🙂"
    assert printable(text) == text


@pytest.mark.parametrize(
    ("harmful", "shown"),
    [
        ("\x1b[2J", "␛[2J"),
        ("\x00", "␀"),
        ("\r", "␍"),
        ("\x7f", "␡"),
        ("\x9b31m", "[U+009B]31m"),
        ("\u202eabc\u2066", "[U+202E]abc[U+2066]"),
        ("a\u200bb\ufeff", "a[U+200B]b[U+FEFF]"),
        ("\ud800", "[U+D800]"),
        ("\U000e0041", "[U+E0041]"),
    ],
)
def test_each_harmful_character_has_a_visible_stand_in(harmful, shown):
    assert printable(harmful) == shown
