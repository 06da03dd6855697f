"""What a model of one's own cannot do is refused before anything is built, in one line that names the key."""

from __future__ import annotations

import pytest

from kvbench.config.compose import load_config, sources
from kvbench.errors import ConfigError
from kvbench.plan import make_plan

OWN = ("model=python", "model.target=pack.mine:Outer.build")


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("model=python",), "model.target is not set: name the factory"),
        (("model=python", "model.target=mine"), "model.target=mine: must be of the form package.module:factory"),
        (
            ("model.target=mine:build",),
            "model.target=mine:build: has no effect with model.weights=embedded",
        ),
        (("model.options.width=3",), "has no effect with model.weights=embedded; choose model=python"),
        ((*OWN, "mode=generate"), "mode generate is transformers' own generate()"),
        ((*OWN, "mode=nocache_naive"), "mode nocache_naive has the habit all_logits"),
        ((*OWN, "arms=[{mode: cached},{mode: nocache, habit: dropped_cache}]"), "has the habit dropped_cache"),
        (
            (*OWN, "arms=[{mode: cached, attention: math}]"),
            "arms[0].attention=math: has no effect with model.weights=py",
        ),
        ((*OWN, "attention=eager"), "attention=eager: has no effect with model.weights=python"),
        ((*OWN, "model.quantization=int8"), "model.quantization=int8: has no effect with model.weights=python"),
        ((*OWN, "model.device_map=auto"), "model.device_map=auto: has no effect with model.weights=python"),
        ((*OWN, "shapes.attentions=true"), "shapes.attentions=true: has no effect with model.weights=python"),
        ((*OWN, "workload.chat_template=true"), "workload.chat_template=true: has no effect with model.weights=python"),
    ],
)
def test_each_refusal(overrides: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(overrides, sources())
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    "override", ["model.options={width: 8, deep: [1, 2]}", "+model.options={width: 8, deep: [1, 2]}"]
)
def test_options_are_any_mapping(override: str) -> None:
    assert {"width": 8, "deep": [1, 2]} == load_config([*OWN, override], sources()).model.options
    assert {"width": 8} == load_config([*OWN, "model.options.width=8"], sources()).model.options


def test_a_plan_is_named_for_the_factory_and_keeps_its_own_cache() -> None:
    plan = make_plan(load_config(OWN, sources()))
    assert ("build", ["none", "own"]) == (plan.model_name, [arm.cache for arm in plan.arms])
    assert "mine" == make_plan(load_config([*OWN, "model.name=mine"], sources())).model_name
