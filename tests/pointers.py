"""JSON pointers (RFC 6901) into a record."""

from __future__ import annotations

from typing import Any


def resolved(data: Any, pointer: str) -> Any:
    """What a pointer points to; raises `KeyError` or `IndexError` where there is nothing."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def unresolved_evidence(record: dict[str, Any]) -> list[str]:
    """Pointers of a record's sentences that lead to nothing or to null."""
    pointers = {
        pointer
        for comparison in [*record["comparisons"], *filter(None, [record["comparison"]])]
        for sentence in comparison["diagnosis"]
        for pointer in sentence["evidence"] or [""]
    }
    return sorted(pointer for pointer in pointers if not pointer or not _known(record, pointer))


def _known(record: dict[str, Any], pointer: str) -> bool:
    try:
        return resolved(record, pointer) is not None
    except (KeyError, IndexError):
        return False
