"""`python -m kvbench [overrides]`: one run, or with -m a sweep of them."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.commands.arguments import Parser
from kvbench.commands.words import refuse_flags

USAGE = "python -m kvbench [-m] [--config-dir DIR] [--config-path DIR --config-name NAME] [--cfg job] [KEY=VALUE ...]"


def main(argv: Sequence[str]) -> int:
    """Run what the arguments ask for; the exit code of the command table. Raises `BadInput` before anything ran."""
    refuse_flags(argv)
    options = _parser().parse_intermixed_args(list(argv))
    from kvbench.config.compose import load_config, sources, to_yaml

    where = sources(options.config_dir, options.config_path, options.config_name)
    if options.cfg:
        print(to_yaml(load_config(options.overrides, where)), end="")  # noqa: T201 - this is the command's output
        return 0
    if options.multirun:
        from kvbench.commands.sweep import run_sweep

        return run_sweep(options.overrides, where)
    config = load_config(options.overrides, where)
    # Imported only now: a bad override is answered without waiting for numpy and its kin.
    from kvbench.commands.single import run_single

    return run_single(config)


def _parser() -> Parser:
    parser = Parser(prog="kvbench", usage=USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir")
    parser.add_argument("-cp", "--config-path")
    parser.add_argument("-cn", "--config-name")
    parser.add_argument("-c", "--cfg", choices=["job"])
    return parser
