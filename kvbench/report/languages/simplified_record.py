"""x."""

MEANINGS: dict[str, str] = {}
