"""What a configuration of `model=python` must satisfy: what such a model cannot do is refused before it is built."""

from __future__ import annotations

import re

from kvbench.capabilities import MODES, habits_of
from kvbench.config.arms import written_arms
from kvbench.config.schema import Config, ModelConfig
from kvbench.errors import ConfigError

OWN = "python"  # the value of model.weights
TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
# Habits that are switched through arguments of transformers' models.
NOT_OURS = ("all_logits", "dropped_cache")


def check_own_model(config: Config) -> None:
    """Raise `ConfigError` for what only transformers' models can do, and for a target that is none."""
    model = config.model
    if model.weights != OWN:
        return
    _check_target(model)
    arms = written_arms(config)
    for arm in arms:
        if not MODES[arm.mode].ours:
            raise ConfigError(
                f"mode {arm.mode} is transformers' own generate(), which model=python has not; leave it out"
            )
        foreign = sorted(habits_of(arm.mode, arm.habit) & set(NOT_OURS))
        if foreign:
            raise ConfigError(
                f"mode {arm.mode} has the habit {foreign[0]}, which is asked for by an argument of transformers'"
                " models; model=python has none: leave it out"
            )


def _check_target(model: ModelConfig) -> None:
    if model.target is None:
        raise ConfigError(
            "model.target is not set: name the factory of your model, such as model.target=package.module:factory"
        )
    if not TARGET.fullmatch(model.target):
        raise ConfigError(f"model.target={model.target}: must be of the form package.module:factory")
