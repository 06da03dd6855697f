"""Hydra's launchers: which there are, what each wants installed, and how jobs are handed to one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import initialize, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kvbench.config.overrides import in_grammar
from kvbench.errors import ConfigError, Mistyped, reason_of
from kvbench.installation import install_hint
from kvbench.readiness import is_installed

GROUP, SETTINGS = "hydra/launcher", "hydra.launcher"
PRIMARY = "kvbench_launch"  # the configuration of a job, which Hydra composes
BASIC = "basic"  # Hydra's own, which runs one job after another in this process: a plain sweep does that


@dataclass(frozen=True)
class Kind:
    """A launcher that kvbench is tested with: the extra that installs it, its module, and where its jobs run.

    With `is_local` they are processes of this host, which share the points and its devices; else each job has a part of
    its own, wherever it runs.
    """

    extra: str
    module: str
    is_local: bool


KINDS = {
    "joblib": Kind("joblib", "hydra_plugins.hydra_joblib_launcher", is_local=True),
    "submitit_local": Kind("slurm", "hydra_plugins.hydra_submitit_launcher", is_local=True),
    "submitit_slurm": Kind("slurm", "hydra_plugins.hydra_submitit_launcher", is_local=False),
    "ray": Kind("ray", "hydra_plugins.hydra_ray_launcher", is_local=False),
}


@dataclass(frozen=True)
class Launcher:
    """A launcher by its name, with the overrides of its own keys, as they were typed."""

    name: str
    settings: tuple[str, ...]
    config_dir: Path | None

    @property
    def kind(self) -> Kind:
        """What is known of it."""
        return KINDS[self.name]

    def jobs(self) -> int | None:
        """How many of its jobs run at once, where its own keys say so."""
        n_jobs = self._composed([]).hydra.launcher.get("n_jobs") if self.name == "joblib" else None
        return int(n_jobs) if n_jobs is not None and int(n_jobs) > 0 else None

    def require(self) -> None:
        """Raise `ConfigError` where it is not installed or a key is none of its own; nothing is started."""
        if not is_installed(self.kind.module):
            raise ConfigError(f"{GROUP}={self.name}: its package is not installed: {install_hint(self.kind.extra)}")
        self._composed([])

    def launch(self, sweep: Path, jobs: Sequence[tuple[int, int]]) -> list[str]:
        """Have jobs done, each a part and a lane, and wait for them; what went wrong, a line each.

        The jobs write their own records. What this raises is an interruption alone.
        """
        from kvbench.launching import lane  # which brings all that a run needs: a mistyped key is answered without

        settings = [f"hydra.launcher.n_jobs={len(jobs)}"] if self.name == "joblib" else []
        where = [f"hydra.sweep.dir={in_grammar(str(sweep / 'jobs'))}", "hydra.output_subdir=null"]
        silent = ["hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
        overrides = [[f"order={in_grammar(str(sweep))}", f"part={part}", f"lane={number}"] for part, number in jobs]
        try:
            with _composing(self.config_dir) as hydra:
                config = self._compose(hydra, [*settings, *where, *silent])
                context = HydraContext(config_loader=hydra.config_loader, callbacks=_no_callbacks())
                launcher = Plugins.instance().instantiate_launcher(context, lane.run, config)
                answers = launcher.launch(overrides, initial_job_idx=0)
            return [line for job, answer in zip(jobs, answers, strict=True) if (line := _complaint(job, answer))]
        except Exception as error:  # a launcher's own: a job that was killed, a queue that refuses
            return [f"{type(error).__name__}: {reason_of(error)}"]

    def _composed(self, more: Sequence[str]) -> DictConfig:
        with _composing(self.config_dir) as hydra:
            return self._compose(hydra, more)

    def _compose(self, hydra: Any, more: Sequence[str]) -> DictConfig:
        name = f"{GROUP}={self.name}"
        searchpath = [f"hydra.searchpath=['file://{self.config_dir}']"] if self.config_dir else []
        try:
            composed: DictConfig = hydra.compose_config(
                PRIMARY, [name, *searchpath, *self.settings, *more], RunMode.MULTIRUN, from_shell=False
            )
        except MissingConfigException as error:
            raise Mistyped(f"{name}: there is no such launcher; there are {', '.join(KINDS)}") from error
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise self._unknown_key(hydra, error) from error
        return composed

    def _unknown_key(self, hydra: Any, error: Exception) -> Mistyped:
        known = hydra.compose_config(PRIMARY, [f"{GROUP}={self.name}"], RunMode.MULTIRUN, from_shell=False)
        keys = [str(key) for key in known.hydra.launcher if not str(key).startswith("_")]
        for written in self.settings:
            key = written.lstrip("+~").partition("=")[0].removeprefix(f"{SETTINGS}.").partition(".")[0]
            if key not in keys:
                near = get_close_matches(key, keys, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                return Mistyped(f"{written}: {GROUP}={self.name} has no such key; {hint}it has {', '.join(keys)}")
        return Mistyped(f"{' '.join(self.settings)}: not what {GROUP}={self.name} takes ({reason_of(error)})")


def launcher_of(overrides: Sequence[str], config_dir: Path | None) -> tuple[Launcher | None, list[str]]:
    """The launcher that a sweep's overrides ask for, and the overrides that are left for its points.

    None for Hydra's own basic launcher, which is a plain sweep. Raises `Mistyped` for one that kvbench does not know,
    for two of them, and for keys of a launcher without one.
    """
    rest = [each for each in overrides if not _is_ours(each)]
    chosen = [each.partition("=")[2] for each in overrides if _key(each) == GROUP]
    settings = tuple(each for each in overrides if _key(each).startswith(f"{SETTINGS}."))
    if len(chosen) > 1:
        raise Mistyped(f"{GROUP}={','.join(chosen)}: a sweep has one launcher; give one")
    name = chosen[0] if chosen else BASIC
    if name not in (BASIC, *KINDS):
        raise Mistyped(f"{GROUP}={name}: kvbench knows no such launcher; there are {', '.join((BASIC, *KINDS))}")
    if name == BASIC:
        if settings:
            raise Mistyped(f"{settings[0]}: a key of a launcher; choose one with {GROUP}=…: {', '.join(KINDS)}")
        return None, rest
    return Launcher(name, settings, config_dir), rest


def _is_ours(override: str) -> bool:
    return _key(override) == GROUP or _key(override).startswith(f"{SETTINGS}.")


def _key(override: str) -> str:
    return re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0]


@contextmanager
def _composing(config_dir: Path | None) -> Iterator[Any]:
    """Hydra, ready to compose the configuration of a job: where the order is, and what of it is to be done."""
    ConfigStore.instance().store(name=PRIMARY, node={"order": "", "part": 0, "lane": 0})
    logging.getLogger("hydra").setLevel(logging.WARNING)
    begin = initialize_config_dir(str(config_dir), version_base="1.3") if config_dir else None
    with begin or initialize(config_path=None, version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        yield hydra


def _no_callbacks() -> Any:
    from hydra._internal.callbacks import Callbacks

    return Callbacks()


def _complaint(job: tuple[int, int], answer: Any) -> str | None:
    """What is wrong with a job's answer, a `JobReturn` of Hydra's; None for one that did its points."""
    name = f"job {job[0]}-{job[1]}"
    if getattr(answer.status, "name", "") != "COMPLETED":
        return f"{name}: {reason_of(answer._return_value)}"
    value = answer.return_value
    return f"{name}: {value['error']}" if isinstance(value, dict) and "error" in value else None
