"""A launcher of Hydra's without a package: each job is a fork of the test's own process."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from kvbench.launching import launchers

NAME = "forked"


class Forked(Launcher):
    """Starts all jobs at once and waits for them; what they answer stays with them."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.loader, self.task, self.config = hydra_context.config_loader, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        jobs = [self._start(self.loader.load_sweep_config(self.config, list(each))) for each in job_overrides]
        for job in jobs:
            os.waitpid(job, 0)
        return [JobReturn(_return_value={}, status=JobStatus.COMPLETED) for _ in jobs]

    def _start(self, config: Any) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's, on forks of a process with threads
            job = os.fork()
        if job == 0:
            try:
                self.task(config)
            finally:
                os._exit(0)
        return job


Forked.__module__ = "hydra_plugins.forked_launcher"  # Hydra takes no plugin from elsewhere


def register(monkeypatch: pytest.MonkeyPatch, *, is_local: bool = True) -> None:
    """Make `hydra/launcher=forked` known for the time of a test."""
    Plugins.instance().register(Forked)
    for name in ("hydra_plugins", Forked.__module__):  # where Hydra looks for the class
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["hydra_plugins"], "forked_launcher", sys.modules[Forked.__module__], raising=False)
    monkeypatch.setattr(sys.modules[Forked.__module__], Forked.__name__, Forked, raising=False)
    node = {"_target_": "hydra_plugins.forked_launcher.Forked", "pause_s": 0.0}
    ConfigStore.instance().store(group="hydra/launcher", name=NAME, node=node)
    monkeypatch.setitem(launchers.KINDS, NAME, launchers.Kind("test", "kvbench", is_local=is_local))
