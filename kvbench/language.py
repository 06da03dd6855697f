"""The language of the terminal and of the report page; records, exports and errors are in English."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from kvbench.errors import ConfigError
from kvbench.text import shortened

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh-CN", "zh-TW")  # as in HTML
VARIABLE = "KVBENCH_LANG"

_spoken: ContextVar[str] = ContextVar("language", default=ENGLISH)


def spoken() -> str:
    """The language of what is said here and now: one of `LANGUAGES`."""
    return _spoken.get()


@contextmanager
def speaking(asked: str | None) -> Iterator[None]:
    """Say everything in this language meanwhile; None: in the one that `KVBENCH_LANG` names, else in English.

    Raises `ConfigError` when the variable names a language that there is not.
    """
    token = _spoken.set(asked or _of_environment())
    try:
        yield
    finally:
        _spoken.reset(token)


def _of_environment() -> str:
    named = os.environ.get(VARIABLE) or ENGLISH
    if named not in LANGUAGES:
        raise ConfigError(f"{VARIABLE}={shortened(named)}: not known; allowed: {', '.join(LANGUAGES)}")
    return named
