"""The documentation's own model, and what it becomes when its cache is broken."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "own-model.md"

# What people get wrong, as replacements of a line of the documentation's model by another.
WRONG_POSITION = ("past = 0 if cache is None else cache.length", "past = 0")
ALL_AGAIN = (
    "        past = 0 if cache is None else cache.length\n",
    "        past = 0\n"
    "        if cache is not None:\n"
    "            cache.ids = torch.cat([cache.ids, ids], dim=1) if cache.length else ids\n"
    "            cache.length = cache.ids.shape[1]\n"
    "            ids, cache = cache.ids, None\n",
)
NO_CACHE = ("def new_cache(", "def no_cache(")


def nano(*changes: tuple[str, str]) -> str:
    """The source of the documentation's model, with changes; each has to find its place."""
    source = re.search(r"<!-- file: nano.py -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert source is not None
    text = source[1]
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    return text
