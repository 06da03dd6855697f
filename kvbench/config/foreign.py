"""Configuration files that may have come from somebody else: what they may not decide by themselves.

A run folder's config.yaml repeats its run, and people send each other run folders. Such a file may say how to measure.
It may not choose code to run, files to read, a place to write to or who gets the results, nor look into this machine's
environment, unless the command line says the same key.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
from omegaconf.grammar_parser import parse

from kvbench.config.schema import Config
from kvbench.errors import ConfigError
from kvbench.options import settings
from kvbench.text import shortened

RUNS_CODE = ("model.target", "model.options", "model.trust_remote_code")
READS_OR_WRITES = ("model.path", "workload.prompts", "results_dir")
SENDS_AWAY = ("track",)
SHOWN_KEYS = 4  # of one refusal
MOST_BYTES = 4 * 2**20
DEEPEST = 40  # lists and mappings inside of each other; a run's own config.yaml has four


def is_foreign(config_path: Path, folders: Sequence[Path], ours: Path) -> bool:
    """Whether a composition reads files that may be somebody else's.

    `config_path` holds the file of --config-name, `folders` hold further groups. Somebody else's is every `config_path`
    but the one that comes with kvbench, and every folder that holds a run. Any other folder of --config-dir is the
    person's own: its files count only where the command line names them, such as `model=NAME`.
    """
    return config_path != ours or any(map(_is_a_run, folders))


def _is_a_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in _OF_A_RUN)


_OF_A_RUN = ("run.json", "blocks.jsonl")  # what only a run folder holds (kvbench/records/store.py)


@contextmanager
def read_with_care(config_path: Path, ours: Path) -> Iterator[None]:
    """A context in which every file of a folder that may be somebody else's is looked at before Hydra reads it.

    It goes inside of Hydra's own, which finds the class that reads files.

    Raises `ConfigError` for what `require_readable` refuses, and for a file outside of the folder, to which the
    defaults of any of its files can lead.
    """
    files: Any = SourcesRegistry.instance().resolve("file")  # the class that Hydra reads with; it imports it by itself
    read = files.load_config

    def load_config(source: Any, config_path: str) -> Any:
        folder = Path(source.path)
        if folder == theirs or _is_a_run(folder):
            file = Path(os.path.normpath(folder / f"{config_path.removesuffix('.yaml')}.yaml"))
            if not file.is_relative_to(folder):
                raise ConfigError(f"{folder}: the defaults of its files lead out of it ({shortened(config_path)})")
            require_readable(file)
        return read(source, config_path)

    theirs = None if config_path == ours else config_path
    files.load_config = load_config
    try:
        yield
    finally:
        files.load_config = read


def require_readable(file: Path) -> None:
    """Raise `ConfigError` for a file whose reading could take forever or read something else than a file.

    A file that does not exist is left to Hydra, which names those that do.
    """
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{file}: not an ordinary file")
        if file.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{file}: larger than {MOST_BYTES // 2**20} MiB, so not a configuration")
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{file}: cannot read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text") from error
    _require_plain(file, text)


def _require_plain(file: Path, text: str) -> None:
    """Aliases multiply (a few lines can stand for billions of values), and a mapping can hold itself through one."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{file}: uses a YAML alias (*{event.anchor}); write the value itself")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError(f"{file}: lists and mappings are nested deeper than {DEEPEST}")
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error


def require_confirmed(composed: DictConfig, overrides: Sequence[str], file: Path) -> None:
    """Raise `ConfigError`, naming the file and the keys, for what the command line must say itself.

    `composed` is not resolved yet; `overrides` are in Hydra's terms.
    """
    said = set(_said(overrides))
    for key, value in _leaves("", OmegaConf.to_container(composed, resolve=False)):
        if key not in said and isinstance(value, str) and _asks_a_resolver(value):
            raise ConfigError(
                f"{file}: sets {key}={shortened(value)}: a file that may be somebody else's may not look into this"
                f" machine's environment; give {key} on the command line"
            )
    usual = {key: value for key, value, _ in settings(Config())}
    chosen = OmegaConf.to_container(composed, resolve=True)
    unsaid = [
        f"{key}={shortened(str(value))}"
        for guarded in (*RUNS_CODE, *READS_OR_WRITES, *SENDS_AWAY)
        for key, value in _leaves(guarded, _at(chosen, guarded))
        if key not in said and value not in (None, usual.get(key)) and not _is_inside(guarded, value, file.parent)
    ]
    if unsaid:
        more = f" and {len(unsaid) - SHOWN_KEYS} more keys" if len(unsaid) > SHOWN_KEYS else ""
        raise ConfigError(
            f"{file}: sets {', '.join(unsaid[:SHOWN_KEYS])}{more}: a file that may be somebody else's may not choose"
            " code to run, files to read, where to write or who gets the results; if you trust it, repeat"
            f" {'these keys' if len(unsaid) > 1 else 'this key'} on the command line"
        )


def _is_inside(key: str, value: Any, folder: Path) -> bool:
    """Whether a path that is read lies in the file's own folder, links followed."""
    return key in ("model.path", "workload.prompts") and Path(str(value)).resolve().is_relative_to(folder.resolve())


def _said(overrides: Sequence[str]) -> Iterator[str]:
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if not override.is_delete():
            for key, _ in _leaves(override.key_or_group, override.value()):
                yield key


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value inside of mappings and lists as (dotted key, value); of an empty one nothing."""
    if isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(f"{key}.{name}" if key else str(name), item)
    else:
        yield key, value


def _at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name) if isinstance(config, dict) else None
    return config


def _asks_a_resolver(text: str) -> bool:
    """Whether a value calls one of OmegaConf's functions, such as `${oc.env:HOME}`; `${other.key}` calls none."""
    if "${" not in text:
        return False
    try:
        nodes = [parse(text)]
    except GrammarParseError:
        return True  # nothing that could be told to be harmless
    while nodes:
        node = nodes.pop()
        if isinstance(node, OmegaConfGrammarParser.InterpolationResolverContext):
            return True
        nodes += getattr(node, "children", None) or []
    return False
