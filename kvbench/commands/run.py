"""`python -m kvbench [overrides]`: one run, or with -m a sweep of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kvbench.commands import LAST
from kvbench.commands.arguments import Parser, add_hydra_options, refuse_flags, require_obeyed
from kvbench.config.schema import Config
from kvbench.language import speaking
from kvbench.readiness import require_one_process
from kvbench.running.team import launched_place

USAGE = "python -m kvbench [-m] [--config-dir DIR] [--config-path DIR --config-name NAME] [--cfg job] [KEY=VALUE ...]"


def main(argv: Sequence[str]) -> int:
    """Run what the arguments ask for; the exit code of the command table. Raises `BadInput` before anything ran."""
    refuse_flags(argv)
    options = _parser().parse_intermixed_args(list(argv))
    if options.shell_completion:
        from kvbench.commands.completion import complete

        return complete(options.overrides)
    require_obeyed(options)
    from kvbench.config.compose import load_config, sources

    if options.config_path == LAST and not Path(LAST).exists():
        from kvbench.commands.result_files import newest_run

        options.config_path = str(newest_run())
    where = sources(options.config_dir, options.config_path, options.config_name)
    if options.cfg:
        from kvbench.commands.validation import print_config, print_points

        return (print_points if options.multirun else print_config)(options.overrides, where)
    if options.multirun:
        require_one_process()
    # What computes and draws is imported only below: bad input is answered without waiting for numpy and its kin.
    if options.multirun:
        from kvbench.commands.validation import validated_points

        points = validated_points(options.overrides, where)
        from kvbench.commands.sweep import run_sweep

        with speaking(next((point.config.language for point in points if isinstance(point.config, Config)), None)):
            return run_sweep(points)
    config = load_config(options.overrides, where)
    require_one_process(ranks=config.model.tensor_parallel)
    place = launched_place()
    if place is not None and place.rank > 0:
        from kvbench.commands.follow import follow

        return follow(config)
    with speaking(config.language):
        return _run(config)


def _run(config: Config) -> int:
    if not config.resume:  # an earlier run may stand for one that this machine cannot measure any more
        from kvbench.readiness import ready_plan, require_results_dir

        ready_plan(config)
        require_results_dir(config.results_dir)
    from kvbench.commands.sweep import run_single

    return run_single(config)


def _parser() -> Parser:
    parser = Parser(prog="kvbench", usage=USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    add_hydra_options(parser)
    return parser
