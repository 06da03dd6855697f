"""A package whose kernels refuse a model's layers on this CPU is one line, before anything is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvbench.errors import ModelUnavailable
from kvbench.models.sizing import require_computing


def broken(error: Exception) -> Callable[..., None]:
    def forward(**_: Any) -> None:
        raise error

    return forward


def test_is_refused_with_the_key_the_reason_and_the_remedy(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr(model, "forward", broken(RuntimeError("shape [96]\nis not a multiple of 64")))
    with pytest.raises(ModelUnavailable) as refused:
        require_computing("nf4", model)
    said = str(refused.value)
    assert said.startswith(
        "model.quantization=nf4: bitsandbytes cannot compute with this model on this CPU (shape [96]"
    )
    assert "\n" not in said
    assert said.endswith("use a GPU, another model.quantization, or model.quantization=none")
    require_computing("none", model)


def test_memory_that_runs_out_is_another_matter(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr(model, "forward", broken(RuntimeError("can't allocate memory")))
    with pytest.raises(RuntimeError, match="allocate"):
        require_computing("nf4", model)


def test_a_model_that_computes_passes(tiny_model: Callable[..., Any]) -> None:
    require_computing("nf4", tiny_model("llama"))
