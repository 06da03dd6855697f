"""What would be measured, looked through before anything is: the points of a sweep, and `--cfg job`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvbench.config.compose import Point, Sources, load_config, load_points, sweep_points, to_yaml
from kvbench.config.schema import Config
from kvbench.errors import BadInput, ConfigError, Mistyped
from kvbench.readiness import ready_plan, require_results_dir

SHOWN_POINTS, SHOWN_REASONS = 3, 10  # of a list that is read in a glance
COUNTED_FROM = 50  # points: fewer are composed before anyone waits


@dataclass(frozen=True)
class SweepPoint:
    """A point's overrides, its configuration or what was wrong with it, and why it will not be measured, if so."""

    overrides: Point
    config: Config | ConfigError
    refusal: BadInput | None


def validated_points(overrides: Sequence[str], where: Sources, *, here: bool = True) -> list[SweepPoint]:
    """Every point of a sweep, checked as far as can be told without torch; of another machine than `here`, less.

    Raises `Mistyped` for a key, option or value that no point could have, whichever point has it, and `BadInput` when
    no point is left to be measured or results cannot be written. A point whose parts do not go together, or that lacks
    something on this machine, is left in the list with its refusal.
    """
    points = list(sweep_points(overrides, where))
    checked = []
    for number, (point, config) in enumerate(zip(points, load_points(points, where), strict=True), start=1):
        checked.append(SweepPoint(point, config, _refusal(config, here=here)))
        _count(number, len(points))
    _require_no_typo(checked)
    if not any(map(_may_be_finished, checked)):
        _require_one_left(checked)
    return checked


def refusal_lines(refused: Sequence[SweepPoint], points: Sequence[SweepPoint]) -> list[str]:
    """The points of a sweep that will be refused, by reason; empty when there are none."""
    shared = set(points[0].overrides).intersection(*(point.overrides for point in points[1:])) if points else set()
    by_reason: dict[str, list[str]] = {}
    for point in refused:
        own = " ".join(each for each in point.overrides if each not in shared)
        by_reason.setdefault(str(point.refusal), []).append(own)
    if not by_reason:
        return []
    lines = [
        f"{len(refused)} of {len(points)} points will be refused, the others are measured (Ctrl-C stops the sweep):"
    ]
    for reason, names in list(by_reason.items())[:SHOWN_REASONS]:
        more = f" and {len(names) - SHOWN_POINTS} more" if len(names) > SHOWN_POINTS else ""
        lines.append(f"  {len(names)} × {reason}")
        lines.append(f"      {'; '.join(names[:SHOWN_POINTS])}{more}")
    if len(by_reason) > SHOWN_REASONS:
        lines.append(f"  … for {len(by_reason) - SHOWN_REASONS} more reasons")
    return lines


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


def _refusal(config: Config | ConfigError, *, here: bool) -> BadInput | None:
    if isinstance(config, ConfigError):
        return config
    if not here:
        return None
    try:
        ready_plan(config)
    except BadInput as error:
        return error
    return None


def _require_no_typo(points: Sequence[SweepPoint]) -> None:
    typos = [point.refusal for point in points if isinstance(point.refusal, Mistyped)]
    messages = list(dict.fromkeys(map(str, typos)))
    if not messages:
        return
    others = f"; {len(messages) - 1} more mistakes" if len(messages) > 2 else f"; {messages[-1]}" * (len(messages) - 1)
    share = "" if len(points) == 1 else f" ({len(typos)} of {len(points)} points; none was measured)"
    raise Mistyped(f"{messages[0]}{others}{share}")


def _require_one_left(points: Sequence[SweepPoint]) -> None:
    for point in points:
        if point.refusal is None and isinstance(point.config, Config):
            require_results_dir(point.config.results_dir)
            return
    first = points[0].refusal
    assert first is not None
    raise first


def _may_be_finished(point: SweepPoint) -> bool:
    """Whether an earlier run may stand for a point that this machine cannot measure any more."""
    config = point.config
    return isinstance(config, Config) and config.resume is not False and Path(config.results_dir).is_dir()


def _count(done: int, total: int) -> None:
    """On a terminal, how far a long look has come."""
    if total >= COUNTED_FROM and sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\rchecking the points: {done} of {total}", end=end, file=sys.stderr, flush=True)  # noqa: T201
