"""Hydra's compositions without their repetitions: in a session of tests the shipped files do not change."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from kvbench.config import compose
from kvbench.config.compose import OBEYED, Sources
from kvbench.config.conf_files import conf_folder
from kvbench.config.schema import Config

SHIPPED = {"hydra.conf", str(conf_folder()), ""}  # Hydra's own files, ours, and the dataclasses


def keep_compositions(patch: pytest.MonkeyPatch) -> None:
    """Find once which files a choice of groups takes, and put them together once; every composition gets a copy.

    What is typed besides is laid over the copy by Hydra, and checked by us, every time. Where a folder of somebody
    else's takes part, everything is read anew.
    """
    Plugins.instance()  # imports them
    find, put_together = config_loader_impl.create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list
    read, store = CachingConfigRepository.load_config, ConfigStore.store
    files: dict[str, Any] = {}
    choices: dict[tuple[str, ...], Any] = {}
    wholes: dict[str, bytes] = {}
    nodes: dict[str, Any] = {}

    def load_config(self: Any, config_path: str) -> Any:
        """For those who only look: what is put together takes its parts along, and has to read them itself."""
        if config_path not in files or not _shipped(self):
            found = read(self, config_path)
            return files.setdefault(config_path, found) if _shipped(self) else found
        return files[config_path]

    def create_defaults_list(repo: Any, config_name: str, overrides_list: list[Any], **how: Any) -> Any:
        if not _shipped(repo):
            return find(repo, config_name, overrides_list, **how)
        groups = [each for each in overrides_list if repo.group_exists(each.key_or_group)]
        key = (config_name, *(str(each.input_line) for each in groups), str(how))
        if any(isinstance(each.value(), dict) for each in groups):
            return find(repo, config_name, overrides_list, **how)
        if key not in choices:
            choices[key] = find(repo, config_name, groups, **how)
        return replace(choices[key], config_overrides=[each for each in overrides_list if each not in groups])

    def composed(self: Any, defaults: list[Any], repo: Any) -> Any:
        key = str(defaults)
        if key in wholes and _shipped(repo):
            return pickle.loads(wholes[key])
        with pytest.MonkeyPatch.context() as unkept:
            unkept.setattr(CachingConfigRepository, "load_config", read)
            whole = put_together(self, defaults, CachingConfigRepository(repo.delegate))
        if _shipped(repo):
            with suppress(pickle.PicklingError):  # of a class that was imported a second time
                wholes[key] = pickle.dumps(whole)
        return whole

    def store_once(self: Any, name: str, node: Any, *rest: Any, **more: Any) -> None:
        if rest or more or nodes.get(name) is not node:
            store(self, name, node, *rest, **more)
            nodes[name] = node
            for kept in (
                files,
                choices,
                wholes,
                configurations,
            ):  # made with another schema, as of a module that was imported again
                kept.clear()

    compose_config = compose.compose_config
    configurations: dict[tuple[str, ...], Config] = {}

    def configured(overrides: Sequence[str], where: Sources) -> Config:
        """A configuration of the shipped files is the same each time that the same is typed."""
        if where != Sources(conf_folder()) or any("${" in each or OBEYED in each for each in overrides):
            return compose_config(overrides, where)
        key = tuple(overrides)
        if key not in configurations:
            configurations[key] = compose_config(overrides, where)
        return deepcopy(configurations[key])

    patches: list[tuple[Any, Callable[..., Any]]] = [
        (CachingConfigRepository, load_config),
        (config_loader_impl, create_defaults_list),
    ]
    for owner, replacement in patches:
        patch.setattr(owner, replacement.__name__, replacement)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", composed)
    patch.setattr(ConfigStore, "store", store_once)
    patch.setattr(compose, "compose_config", configured)


def _shipped(repository: Any) -> bool:
    return {source.path for source in repository.get_sources()} <= SHIPPED
