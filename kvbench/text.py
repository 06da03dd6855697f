"""Text for people: numbers with a unit that fits, and anything foreign made harmless for a terminal."""

from __future__ import annotations

import math
import re
from typing import Literal
from unicodedata import east_asian_width

# One number as people read it: a unit that fits and three significant digits.


Unit = Literal[
    "s",
    "bytes",
    "bytes read",
    "bytes/s",
    "FLOP",
    "FLOP/s",
    "tokens/s",
    "tokens/pass",
    "J/token",
    "W",
    "ratio",
    "times",
    "count",
]

UNKNOWN = "—"
SIGNIFICANT_DIGITS = 3
MOST_DECIMALS = 6  # an interval narrower than this prints as two equal bounds, with three significant digits
THOUSANDS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns"), (1e-12, " ps"), (1e-15, " fs")),
    "bytes": ((2.0**40, " TiB"), (2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"), (1.0, " B")),
    # Beside a rate, which everybody gives in powers of ten.
    "bytes read": tuple((scale, f" {letter}B") for scale, letter in THOUSANDS),
    "bytes/s": tuple((scale, f" {letter}B/s") for scale, letter in THOUSANDS),
    "FLOP": tuple((scale, f" {letter}FLOP") for scale, letter in THOUSANDS),
    "FLOP/s": tuple((scale, f" {letter}FLOP/s") for scale, letter in THOUSANDS),
    "tokens/s": ((1.0, " tok/s"),),
    "tokens/pass": ((1.0, " tok/pass"),),
    "J/token": ((1.0, " J/token"), (1e-3, " mJ/token")),
    "W": ((1.0, " W"),),
    "ratio": ((0.01, " %"),),
    "times": ((1.0, "×"),),
}


def format_value(value: float | None, unit: Unit) -> str:
    """A number with its unit, such as `12.5 ms` or `4.67 GiB`; an em dash for None."""
    if value is None:
        return UNKNOWN
    if unit == "count":
        return f"{value:,.0f}"
    factor, suffix = scale(value, unit)
    return f"{fixed(value / factor, decimals(value / factor))}{suffix}"


def format_interval(value: float | None, low: float | None, high: float | None, unit: Unit) -> str:
    """A figure with its interval, such as `12.5 ms [12.3, 12.8]`; without one where it is not known."""
    if value is None or low is None or high is None:
        return format_value(value, unit)
    factor, suffix = scale(value, unit)
    value, low, high = value / factor, low / factor, high / factor
    digits = decimals(value)
    # Bounds that round to one number would claim a certainty that was not measured, and so would a ratio's bound that
    # rounds to 1: on which side of it the interval ends is what people look at.
    apart = (more for more in range(digits, MOST_DECIMALS + 1) if fixed(low, more) != fixed(high, more))
    digits = next(apart, digits)
    if unit == "times":
        told = (more for more in range(digits, MOST_DECIMALS + 1) if not _hides_a_side(low, high, more))
        digits = next(told, digits)
    return f"{fixed(value, digits)}{suffix} [{fixed(low, digits)}, {fixed(high, digits)}]"


def _hides_a_side(low: float, high: float, digits: int) -> bool:
    return any(end != 1 and float(fixed(end, digits).replace(",", "")) == 1 for end in (low, high))


def scale(value: float, unit: Unit) -> tuple[float, str]:
    """What to divide by, and the unit's name with a space before it, so that the value reads well."""
    scales = SCALES[unit]
    size = abs(value)
    if size == 0:
        return scales[-1] if unit == "bytes" else scales[0]
    for factor, suffix in scales:
        # Rounded first: 999.9 µs is 1.00 ms, not 1000 µs.
        if float(f"{size / factor:.{SIGNIFICANT_DIGITS - 1}e}") >= 1:
            return factor, suffix
    return scales[-1]


def decimals(value: float) -> int:
    """Digits after the point that leave three significant ones."""
    if value == 0:
        return 0
    magnitude = math.floor(math.log10(abs(float(f"{value:.{SIGNIFICANT_DIGITS - 1}e}"))))
    return min(max(SIGNIFICANT_DIGITS - 1 - magnitude, 0), MOST_DECIMALS)


def fixed(value: float, digits: int) -> str:
    """The number with so many digits after the point, thousands set apart."""
    return f"{value:,.{digits}f}"


# Text from models, prompts and files, made harmless for a terminal.


# Characters that move the cursor, change the terminal's state, reorder text or hide in it.
_HARMFUL = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f"  # C0 without tab and newline, and DEL
    "\x80-\x9f"  # C1: one-character forms of the escape sequences
    "\u00ad\u061c\u180e"  # soft hyphen, Arabic letter mark, Mongolian vowel separator
    "\u200b-\u200f\u2028-\u202e"  # zero width, direction marks, separators, embeddings and overrides
    "\u2060-\u206f\ufeff"  # invisible operators, isolates, deprecated format characters, byte order mark
    "\ud800-\udfff"  # unpaired surrogates cannot be encoded at all
    "\ufff9-\ufffb\U000e0000-\U000e007f"  # interlinear annotation and invisible tags
    "]"
)
LONGEST_LINE = 2000  # characters of a line on stderr, whatever it repeats
LONGEST_ECHO = 200  # characters of a value that is told back to who gave it
_CONTROL_PICTURES = 0x2400  # U+2400 + n depicts the control character n
_DELETE = 0x7F
_PICTURE_OF_DELETE = "\u2421"


def printable(text: str) -> str:
    """The text with every character that a terminal could obey, or that could hide in it, replaced by a visible one.

    Control characters become their pictures (ESC is ␛), the rest their code point in brackets. Tab and newline stay.
    What comes back is encodable as UTF-8, and doing it twice changes nothing.
    """
    return _HARMFUL.sub(_stand_in, text)


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: half of a surrogate pair, as in `"\\ud800"` of JSON, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def columns(text: str) -> int:
    """How many columns of a terminal the text takes: a Chinese character takes two."""
    return len(text) if text.isascii() else len(text) + sum(is_wide(character) for character in text)


def is_wide(character: str) -> bool:
    """Whether a character is as wide as two Latin letters."""
    return east_asian_width(character) in "WF"


def padded(text: str, width: int) -> str:
    """The text with spaces behind it, so that it takes at least so many columns."""
    return text + " " * (width - columns(text))


def one_line(text: str) -> str:
    """The same on one line: white space of any kind is one space."""
    return " ".join(printable(text.replace("\r", " ").replace("\v", " ").replace("\f", " ")).split())


def shortened(text: str, most: int = LONGEST_ECHO) -> str:
    """Somebody's text within a line of ours: printable, on one line, and at most so many characters of it."""
    line = one_line(text[: 4 * most])  # more would be read for nothing
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most]}… ({len(text):,} characters)"


def _stand_in(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    return _PICTURE_OF_DELETE if code == _DELETE else f"[U+{code:04X}]"
