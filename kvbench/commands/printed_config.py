"""`--cfg job`: the resolved configuration that would be measured, or with -m that of every point."""

from __future__ import annotations

from collections.abc import Sequence

from kvbench.config.compose import Sources, load_config, to_yaml
from kvbench.config.points import load_points, sweep_points
from kvbench.config.schema import Config
from kvbench.errors import Mistyped


def print_config(overrides: Sequence[str], where: Sources) -> int:
    """One configuration as YAML. Raises `ConfigError` as `load_config` does."""
    print(to_yaml(load_config(overrides, where)), end="")  # noqa: T201 - this is the command's output
    return 0


def print_points(overrides: Sequence[str], where: Sources) -> int:
    """A YAML document for every point; 1 when one is refused, as its sweep would end. Raises `Mistyped` as it would."""
    points = list(sweep_points(overrides, where))
    configs = list(load_points(points, where))
    if typo := next((config for config in configs if isinstance(config, Mistyped)), None):
        raise typo
    code = 0
    for number, (point, config) in enumerate(zip(points, configs, strict=True), start=1):
        text = to_yaml(config) if isinstance(config, Config) else f"# refused: {config}\n"
        print(f"---\n# [{number}/{len(points)}] {' '.join(point)}\n{text}", end="")  # noqa: T201 - the same
        code = code if isinstance(config, Config) else 1
    return code
