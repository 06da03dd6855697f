"""The arguments of the command line: the parser of every command, Hydra's options, and words that are neither."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

from kvbench.commands import SUBCOMMANDS
from kvbench.config.spelling import NEAR, is_hub_id, stray_word
from kvbench.errors import ConfigError
from kvbench.language import ENGLISH, LANGUAGES, VARIABLE

# Options of Hydra's own command line that kvbench does not obey. By destination: as it is written, and what to do
# instead.
ELSEWHERE = {
    "package": ("--package", "--cfg job prints the whole configuration; leave it out"),
    "info": ("--info", "--cfg job prints the configuration, and `python -m kvbench doctor` tells of this machine"),
    "hydra_help": ("--hydra-help", "`python -m kvbench --help` lists kvbench's options, models and keys"),
    "experimental_rerun": (
        "--experimental-rerun",
        "a run folder's config.yaml repeats its run: python -m kvbench --config-path FOLDER --config-name config",
    ),
}
CONFIGS = ("job", "hydra", "all")
RUNS = ("bench", "benchmark", "measure", "run", "start", "test")  # what other programs call a run


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is a `ConfigError` that names the command's own help."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise ConfigError(f"{message}; `python -m {self.prog} --help` shows what there is")


def add_hydra_options(parser: argparse.ArgumentParser) -> None:
    """All options that Hydra knows, so that each is obeyed or answered."""
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-r", "--run", action="store_true")
    parser.add_argument("-cd", "--config-dir")
    parser.add_argument("-cp", "--config-path")
    parser.add_argument("-cn", "--config-name")
    parser.add_argument("-c", "--cfg", choices=CONFIGS)
    parser.add_argument("-sc", "--shell-completion", action="store_true")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-p", "--package")
    parser.add_argument("-i", "--info", nargs="?", const="all")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--experimental-rerun")
    parser.add_argument("--dry-run", action="store_true")  # ours


def add_language(parser: argparse.ArgumentParser) -> None:
    """--language, for what people read."""
    parser.add_argument(
        "--language",
        choices=LANGUAGES,
        help=f"of what is shown (default: {VARIABLE}, else {ENGLISH})",
    )


def require_obeyed(options: argparse.Namespace) -> None:
    """Raise `ConfigError` for an option that has no effect here, or none beside the others."""
    for name, (option, remedy) in ELSEWHERE.items():
        if getattr(options, name):
            raise ConfigError(f"{option}: not an option of kvbench: {remedy}")
    if options.cfg in ("hydra", "all"):
        raise ConfigError(f"--cfg {options.cfg}: Hydra's own settings have no effect in kvbench; use --cfg job")
    if options.resolve and not options.cfg:
        raise ConfigError("--resolve: goes with --cfg job, which always prints resolved values")
    if options.dry_run and options.cfg:
        raise ConfigError("--dry-run: tells what would be measured, and --cfg how it is configured; leave one out")
    if options.run and options.multirun:
        raise ConfigError("--run and --multirun: one asks for a single run, the other for a sweep; leave one out")


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
