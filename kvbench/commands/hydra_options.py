"""Options of Hydra's own command line: those that kvbench obeys, and the remedy for each of the others."""

from __future__ import annotations

import argparse

from kvbench.errors import ConfigError

# By destination: the option as it is written, and what to do instead.
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


def require_obeyed(options: argparse.Namespace) -> None:
    """Raise `ConfigError` for an option that has no effect here, or none beside the others."""
    for name, (option, remedy) in ELSEWHERE.items():
        if getattr(options, name):
            raise ConfigError(f"{option}: not an option of kvbench: {remedy}")
    if options.cfg in ("hydra", "all"):
        raise ConfigError(f"--cfg {options.cfg}: Hydra's own settings have no effect in kvbench; use --cfg job")
    if options.resolve and not options.cfg:
        raise ConfigError("--resolve: goes with --cfg job, which always prints resolved values")
    if options.run and options.multirun:
        raise ConfigError("--run and --multirun: one asks for a single run, the other for a sweep; leave one out")
