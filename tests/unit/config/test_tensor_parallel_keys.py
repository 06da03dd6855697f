"""What a model that is shared out over ranks cannot do is refused before anything is loaded."""

from __future__ import annotations

import pytest

from kvbench.config.compose import load_config, sources
from kvbench.errors import ConfigError

SHARED = ("model=embedded", "model.tensor_parallel=2")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model.device_map=auto",), "not with model.device_map=auto"),
        (("model.quantization=int8",), "not with model.quantization=int8"),
        (("launch=inline",), "not with launch=inline"),
        (("experiment=frontier",), "not with frontier.axes"),
        (("check.reference=float64",), "not with check.reference=float64"),
        (("device=cuda:1",), "not with device=cuda:1"),
        (("engine=compiled", "cache=static"), "not with engine=compiled"),
        (("cache=fp8",), "not with cache=fp8"),
        (("arms=[{mode: cached, habit: autograd},{mode: nocache}]",), "not with the habit autograd"),
        (("model.tensor_parallel=0",), "must be at least 1"),
    ],
)
def test_is_refused_in_a_sentence(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config([*SHARED, *overrides], sources())


@pytest.mark.parametrize(
    "overrides", [(), ("cache=static",), ("mode=interrupted",), ("device=cuda",), ("experiment=scaling",)]
)
def test_the_rest_is_not(overrides: tuple[str, ...]) -> None:
    assert 2 == load_config([*SHARED, *overrides], sources()).model.tensor_parallel


def test_a_model_of_ones_own_is_not_shared_out() -> None:
    with pytest.raises(ConfigError, match=r"model\.tensor_parallel=2: has no effect with model.weights=python"):
        load_config(["model=python", "model.target=a:b", "model.tensor_parallel=2"], sources())
