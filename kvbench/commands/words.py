"""Words of the command line that are neither a command nor KEY=VALUE: what was meant by them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from kvbench.commands import SUBCOMMANDS
from kvbench.config.spelling import is_hub_id, stray_word
from kvbench.errors import ConfigError

RUNS = ("bench", "benchmark", "measure", "run", "start", "test")  # what other programs call a run
NEAR = 0.7  # of difflib's ratio


def unknown_word(word: str, following: Sequence[str]) -> ConfigError:
    """The error for a first argument that is no command, with what it may have been meant for."""
    if word in RUNS:
        return ConfigError(f"{word}: no such command; a run needs none, leave {word} out; there are {_known()}")
    if near := get_close_matches(word, SUBCOMMANDS, n=1, cutoff=NEAR):
        return ConfigError(f"{word}: no such command; did you mean {near[0]}? there are {_known()}")
    if is_hub_id(word):
        return ConfigError(f"{word}: no such command; did you mean model={word}?")
    if "/" not in word and (meant := stray_word(word, following[0] if following else None)):
        return ConfigError(meant)
    return ConfigError(f"{word}: no such command; there are {_known()}; a run takes KEY=VALUE")


def refuse_flags(arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for a setting that is written as another program's option, such as `--mode cached`."""
    for place, word in enumerate(arguments):
        if word.startswith("-") and (meant := stray_word(word, next(iter(arguments[place + 1 :]), None))):
            raise ConfigError(meant)


def _known() -> str:
    return ", ".join(SUBCOMMANDS)
