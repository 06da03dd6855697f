"""A reference in a wider type is in the record, or refused in one line before anything is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import kvbench
from kvbench.errors import ConfigError
from kvbench.models.tokenizers import byte_tokenizer
from kvbench.records.run_record import RunRecord
from kvbench.records.untimed import UntimedPass
from kvbench.running import arm_agreement


def measured(model: Any, **arguments: Any) -> RunRecord:
    settings = {"prompt_tokens": 6, "new_tokens": 6, "blocks": 1, "warmup": 0, "energy_s": 0, "step_lane": False}
    return kvbench.measure(model, byte_tokenizer(300), **{**settings, **arguments})


@pytest.fixture
def narrow(tiny_model: Callable[..., Any]) -> Any:
    return tiny_model("llama", vocab_size=300).to(torch.bfloat16)


def test_every_arm_has_its_distance(narrow: Any) -> None:
    record = measured(narrow, reference="float32", agreement="full")
    assert [(0, "float32", "cpu", 6), (1, "float32", "cpu", 6)] == [
        (each.arm, each.dtype, each.device, each.steps) for each in record.references
    ]
    assert all(0 < (each.max_rel_logit_diff or 0.0) < 0.1 for each in record.references)
    assert torch.bfloat16 == narrow.dtype
    assert record.comparison is not None
    assert 6 == len(record.comparison.agreement.by_step)
    assert not [pointer for pointer in record.null_reasons if pointer.startswith("/references")]


def test_none_is_computed_unless_asked_for(narrow: Any) -> None:
    assert () == measured(narrow).references


def test_a_single_arm_has_one_too(narrow: Any) -> None:
    assert [0] == [each.arm for each in measured(narrow, modes=["cached"], reference="float64").references]


def test_experts_have_one_in_float64(tiny_model: Callable[..., Any]) -> None:
    experts = tiny_model("mixtral", vocab_size=300, num_hidden_layers=1, num_local_experts=2, sliding_window=None)
    before = experts.config._experts_implementation
    assert [0] == [each.arm for each in measured(experts, modes=["cached"], reference="float64").references]
    assert before == experts.config._experts_implementation


def test_that_cannot_be_computed_fails_alone(narrow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_kernel(*_: Any) -> None:
        raise RuntimeError("expected mat_a to be Float32, got Double")

    monkeypatch.setattr(arm_agreement, "distances", no_such_kernel)
    record = measured(narrow, reference="float64", modes=["cached"])
    assert ("ok", ()) == (record.status, record.references)
    [said] = [warning.detail for warning in record.warnings if warning.code == "reference_failed"]
    assert said.startswith("check.reference=float64: the model cannot be computed in it (expected mat_a")


def test_what_is_not_wider_is_refused_before_anything_is_measured(tiny_model: Callable[..., Any]) -> None:
    seen: list[Any] = []
    with pytest.raises(ConfigError, match="float32: the model computes in float32 already; use check"):
        measured(tiny_model("llama", vocab_size=300), reference="float32", on_event=seen.append)
    assert not [each for each in seen if isinstance(each, UntimedPass)]


def test_quantised_weights_are_refused(narrow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "is_quantized", True, raising=False)
    with pytest.raises(ConfigError, match="float32: the weights are quantised"):
        measured(narrow, reference="float32")


def test_a_copy_that_does_not_fit_beside_the_model_is_refused(narrow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvbench.errors import Infeasible
    from kvbench.models import devices

    monkeypatch.setattr(devices, "_host_free_bytes", lambda: 100_000)
    with pytest.raises(Infeasible, match=r"the model in float32 beside itself \(check.reference\): 0.00 GiB needed"):
        measured(narrow, modes=["nocache"], reference="float32")
