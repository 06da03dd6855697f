"""`python -m kvbench [overrides]`: one run, or with -m a sweep of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvbench.commands import LAST
from kvbench.commands.arguments import Parser, add_hydra_options, refuse_flags, require_obeyed
from kvbench.config.schema import Config
from kvbench.errors import ConfigError
from kvbench.language import speaking
from kvbench.readiness import require_one_process
from kvbench.running.team import launched_place

if TYPE_CHECKING:
    from kvbench.config.compose import Sources

WITHOUT_A_LAUNCHER = "has no effect without a launcher; leave it out, or add -m hydra/launcher=joblib"
USAGE = (
    "python -m kvbench [-m] [--dry-run] [--config-dir DIR] [--config-path DIR --config-name NAME] [--cfg job]"
    " [KEY=VALUE ...]"
)


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

        if not options.multirun:
            return print_config(options.overrides, where)
        from kvbench.launching.launchers import launcher_of

        return print_points(launcher_of(options.overrides, where.config_dir)[1], where)
    if options.multirun:
        require_one_process()
    # What computes and draws is imported only below: bad input is answered without waiting for numpy and its kin.
    if options.multirun:
        return _sweep(options.overrides, where, dry=options.dry_run)
    config = load_config(options.overrides, where)
    if config.jobs is not None:
        raise ConfigError(f"jobs={config.jobs}: {WITHOUT_A_LAUNCHER}")
    if options.dry_run:
        return _sweep(options.overrides, where, dry=True)
    require_one_process(ranks=config.model.tensor_parallel)
    place = launched_place()
    if place is not None and place.rank > 0:
        from kvbench.commands.follow import follow

        return follow(config)
    with speaking(config.language):
        return _run(config)


def _sweep(overrides: Sequence[str], where: Sources, *, dry: bool) -> int:
    from kvbench.commands.validation import validated_points
    from kvbench.launching.launchers import launcher_of

    launcher, rest = launcher_of(overrides, where.config_dir)
    if launcher is not None:
        launcher.require()
    points = validated_points(rest, where, here=launcher is None or launcher.kind.is_local)
    first = next((point.config for point in points if isinstance(point.config, Config)), None)
    if launcher is None and first is not None and first.jobs is not None:
        raise ConfigError(f"jobs={first.jobs}: {WITHOUT_A_LAUNCHER}")
    with speaking(first.language if first is not None else None):
        if dry:
            from kvbench.commands.dry_run import dry_run

            return dry_run(points, None if launcher is None or first is None else launcher.jobs() or first.jobs)
        if launcher is not None:
            from kvbench.commands.launched_sweep import run_launched

            return run_launched(points, launcher, where)
        from kvbench.commands.sweep import run_sweep

        return run_sweep(points)


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
