"""Hydra's composition of `conf/` into a checked `Config`, and its errors in one line each. Hydra stops here."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from kvbench.config.conf_files import conf_folder, escaped, yaml_text
from kvbench.config.overrides import (
    OBEYED,
    in_hydras_terms,
    named_keys,
    require_no_settings,
    require_our_groups,
    require_ours,
)
from kvbench.config.rules import check
from kvbench.config.schema import Config
from kvbench.config.spelling import stray_word, unknown_key, unknown_value
from kvbench.errors import ConfigError, Mistyped

# What Hydra and OmegaConf raise; an assertion where an override reaches into a value that is null.
REFUSALS = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, AssertionError)


@dataclass(frozen=True)
class Sources:
    """Where configuration files are looked for: ours, then the user's `--config-dir`."""

    config_path: Path
    config_name: str = "config"
    config_dir: Path | None = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that hold groups."""
        return (self.config_path, *([self.config_dir] if self.config_dir else []))


def sources(config_dir: str | None = None, config_path: str | None = None, config_name: str | None = None) -> Sources:
    """Where to look, from the command line's options. Raises `ConfigError` when a folder does not exist."""
    for flag, folder in (("--config-dir", config_dir), ("--config-path", config_path)):
        if folder is not None and not Path(folder).is_dir():
            raise ConfigError(f"{flag} {folder}: no such folder")
    return Sources(
        Path(config_path).resolve() if config_path else conf_folder(),
        (config_name or "config").removesuffix(".yaml"),
        Path(config_dir).resolve() if config_dir else None,
    )


def load_config(overrides: Sequence[str], where: Sources) -> Config:
    """Compose and check one configuration. Raises `ConfigError`, one line that names the key."""
    config = compose_config(overrides, where)
    check(config, named_keys(overrides))
    return config


def compose_config(overrides: Sequence[str], where: Sources) -> Config:
    """One configuration, composed and not checked. Raises `ConfigError` as `load_config` does."""
    try:
        # As plain data first: a key added with `+` must meet the schema too. What is resolved is not resolved again.
        plain: Any = escaped(OmegaConf.to_container(_composed(overrides, where), resolve=True))
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), plain))
    except REFUSALS as error:
        raise Mistyped(str(in_one_line(error, overrides))) from error
    assert isinstance(config, Config)
    return config


def has_interpolations(overrides: Sequence[str], where: Sources) -> bool:
    """Whether any value of a configuration refers to another. Raises `ConfigError` as `load_config` does."""
    try:
        return "${" in OmegaConf.to_yaml(_composed(overrides, where))
    except REFUSALS as error:
        raise in_one_line(error, overrides) from error


def _composed(overrides: Sequence[str], where: Sources) -> DictConfig:
    ConfigStore.instance().store(name="schema", node=Config)
    searchpath = [f"hydra.searchpath=['file://{where.config_dir}']"] if where.config_dir else []
    require_ours(overrides)
    if searchpath and any(OBEYED in override for override in overrides):
        raise Mistyped(f"{OBEYED} and --config-dir: one would take the other's place; give all folders in {OBEYED}")
    with initialize_config_dir(str(where.config_path), version_base="1.3"):
        try:
            composed = compose(
                where.config_name,
                overrides=[*searchpath, *in_hydras_terms(overrides, where.folders)],
                return_hydra_config=True,
            )
        except MissingConfigException as error:
            require_our_groups(error)
            raise
    if where != Sources(conf_folder()) or any(OBEYED in override for override in overrides):
        require_no_settings(composed)  # ours make none
    with open_dict(composed):
        del composed["hydra"]
    return composed


def to_yaml(config: Config) -> str:
    """The resolved configuration, such that composing it again gives an equal one."""
    return yaml_text(asdict(config))


def to_dict(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain data."""
    return asdict(config)


def in_one_line(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """What Hydra, OmegaConf or YAML complain about, in our words."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, MissingConfigException):
        return _missing_file(error)
    if isinstance(error, OverrideParseException):
        word = str(error.override)
        following = dict(itertools.pairwise(overrides)).get(word)
        return ConfigError(
            ("=" not in word and stray_word(word, following))
            or f"{word!r}: not in Hydra's grammar; write key=value, lists as [a,b], text in quotes"
        )
    if isinstance(error, AssertionError):
        inside = next((each for each in overrides if each.lstrip("+~").startswith("arms.")), " ".join(overrides))
        return ConfigError(f"{inside}: reaches into a list that is not there; give the whole, arms=[{{mode: cached}}]")
    if isinstance(error, yaml.YAMLError):
        return ConfigError(f"configuration file is not valid YAML: {' '.join(str(error).split())}")
    text = str(error)
    if sweep := re.search(r"Ambiguous value for argument '(.*?)'", text):
        return ConfigError(f"{sweep[1]}: several values are a sweep, which needs -m; a list is written [a,b]")
    in_file = re.match(r"In '(?P<file>[^']+)': (?P<rest>.*)", text, re.DOTALL)
    if in_file and (key := re.search(r"full_key: (\S+)", in_file["rest"])):
        return ConfigError(f"conf file {in_file['file']}.yaml: {_sentence(in_file['rest'], key[1])}")
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and cause.full_key:
        return _unknown(str(cause.full_key), overrides)
    if isinstance(cause, ValidationError):
        return ConfigError(_sentence(str(cause), str(cause.full_key or "configuration")))
    if merged := re.match(r"Error merging override (?P<override>\S+=)", text):
        return ConfigError(f"{merged['override']}…: of another form than the key's value; --help lists the keys")
    return ConfigError(" ".join(text.split()))


def _unknown(key: str, overrides: Sequence[str]) -> ConfigError:
    """The error for a key that does not exist, which one of the overrides may have named."""
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    name, _, value = next((pair for pair in pairs if pair[0] == key or pair[0].startswith(f"{key}.")), (key, "", ""))
    return unknown_key(name, value or None)


def _sentence(message: str, key: str) -> str:
    """OmegaConf's complaint about one key in our words."""
    if found := re.search(r"Value '(?P<value>.*)' of type '\w+' could not be converted to (?P<type>\w+)", message):
        return f"{key}={found['value']}: must be of type {found['type'].lower()}"
    if "is not a ListConfig" in message:
        return f"{key}: must be a list, such as [1,2]"
    if "Incompatible value 'None'" in message or "is not Optional" in message:
        return f"{key}=null: needs a value"
    if found := re.search(r"Value '(?P<value>.*)' is not a valid bool", message):
        return f"{key}={found['value']}: must be true or false"
    if "not in '" in message:
        return str(unknown_key(key))
    return f"{key}: {message.splitlines()[0]}"


def _missing_file(error: MissingConfigException) -> ConfigError:
    missing = str(error.missing_cfg_file)
    group, _, option = missing.rpartition("/")
    if not group:
        return ConfigError(f"configuration {missing}: no such file in the folder given")
    extra = "; any other: model=ORG/NAME of the hub, or model=./FOLDER" if group == "model" else ""
    return ConfigError(f"{unknown_value(group, option, sorted(error.options or ()))}{extra}")
