"""Text from models, prompts and files, made harmless for a terminal."""

from __future__ import annotations

import re

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
_CONTROL_PICTURES = 0x2400  # U+2400 + n depicts the control character n
_DELETE = 0x7F
_PICTURE_OF_DELETE = "\u2421"


def printable(text: str) -> str:
    """The text with every character that a terminal could obey, or that could hide in it, replaced by a visible one.

    Control characters become their pictures (ESC is ␛), the rest their code point in brackets. Tab and newline stay.
    What comes back is encodable as UTF-8, and doing it twice changes nothing.
    """
    return _HARMFUL.sub(_stand_in, text)


def _stand_in(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    return _PICTURE_OF_DELETE if code == _DELETE else f"[U+{code:04X}]"
