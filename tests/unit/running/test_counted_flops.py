"""What torch's counter sees is what the costs predict, experts included, and the model is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kvbench.decoding.forward import Forward, make_batch
from kvbench.model_costs import pass_cost
from kvbench.model_facts import facts_from_config
from kvbench.models.sizing import weight_size
from kvbench.running.step_work import flops_of_prefill

pytestmark = pytest.mark.versions


@pytest.mark.parametrize(
    ("architecture", "changes"), [("llama", {}), ("mixtral", {"num_local_experts": 8, "num_experts_per_tok": 2})]
)
def test_are_those_predicted(tiny_model: Callable[..., Any], architecture: str, changes: dict[str, int]) -> None:
    """The counter is blind to grouped products: a third of a mixture's arithmetic was all it told of."""
    model = tiny_model(architecture, **changes)
    before = (model.config._attn_implementation, getattr(model.config, "_experts_implementation", None))
    counted = flops_of_prefill(Forward(model), make_batch(0, [list(range(3, 35))], 1, torch.device("cpu")))
    size, named = weight_size(model), {"name": "tiny", "source": "random", "dtype": "float32"}
    known = {"parameters": size.parameters, "weight_bytes": size.bytes, "weight_parts": counted.weights}
    predicted = pass_cost(facts_from_config(model.config, **named, **known), 1, 32)
    assert predicted is not None
    assert predicted.square_flops == pytest.approx(counted.flops, rel=0.02)
    assert before == (model.config._attn_implementation, getattr(model.config, "_experts_implementation", None))


def test_weights_are_seen_where_the_model_cannot_be_counted(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama", attn_implementation="sdpa")

    def refuse(_: str) -> None:
        raise ValueError("no eager attention here")

    monkeypatch.setattr(model, "set_attn_implementation", refuse)
    found = flops_of_prefill(Forward(model), make_batch(0, [list(range(3, 35))], 1, torch.device("cpu")))
    assert found.flops is None
    assert "no eager attention here" in str(found.reason)
    assert found.weights is not None
    assert found.weights["linear"]["products"] == found.weights["linear"]["parameters"] > 0
