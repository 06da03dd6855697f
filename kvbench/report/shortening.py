"""Names cut to the room there is, such that what tells them apart stays."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

LEAD = 4  # characters shown before the first one that differs
MOST_ROUNDS = 8  # of looking for the next difference; names that need more are numbered


def middle_cut(text: str, most: int) -> str:
    """The text without its middle where it is longer than `most`."""
    if len(text) <= most:
        return text
    end = most // 2
    return f"{text[: most - end - 1]}…{text[-end:]}"


def shortened(names: Sequence[str], most: int) -> tuple[str, ...]:
    """Every name in at most `most` characters; different names stay different.

    A name loses its middle. Where that makes two alike, their beginning is followed by the place at which they part.
    """
    found = {name: middle_cut(name, most) for name in names}
    for _ in range(MOST_ROUNDS):
        alike = _alike(found)
        for group in alike:
            parting = _parting(group)
            found |= {name: _window(name, parting, most) for name in group}
        if not alike:
            break
    for group in _alike(found):
        for number, name in enumerate(group, start=1):
            mark = f" #{number}"
            found[name] = f"{found[name][: most - len(mark)]}{mark}"
    return tuple(found[name] for name in names)


def _alike(found: dict[str, str]) -> list[list[str]]:
    counts = Counter(found.values())
    groups: dict[str, list[str]] = defaultdict(list)
    for name, short in found.items():
        if counts[short] > 1:
            groups[short].append(name)
    return list(groups.values())


def _parting(group: Sequence[str]) -> int:
    """How many characters all of a group begin with."""
    parted = (place for place, characters in enumerate(zip(*group, strict=False)) if len(set(characters)) > 1)
    return next(parted, min(map(len, group)))


def _window(name: str, parting: int, most: int) -> str:
    """The beginning of a name, and what stands around the place where it parts from another."""
    begin = max(0, parting - LEAD)
    head = min(begin, most // 3)
    if begin <= head:
        return f"{name[: most - 1]}…"
    room = most - head - 1
    rest = name[begin:]
    return f"{name[:head]}…{rest if len(rest) <= room else f'{rest[: room - 1]}…'}"
