"""`kvbench.measure` gives the same record as the command line, for a model that is already loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from own_models import nano

import kvbench
from kvbench.errors import ConfigError
from kvbench.models.byte_tokenizer import byte_tokenizer
from kvbench.records.schema import RunRecord
from kvbench.running.job import Progress


@pytest.fixture
def loaded(tiny_model: Callable[..., Any]) -> tuple[Any, Any]:
    return tiny_model("llama", vocab_size=300), byte_tokenizer(300)


class TestMeasure:
    def test_returns_a_valid_record_of_both_modes(self, loaded: tuple[Any, Any]) -> None:
        record = kvbench.measure(*loaded, "a prompt", new_tokens=6, blocks=5)
        assert isinstance(record, RunRecord)
        assert "ok" == record.status
        assert ["nocache", "cached"] == [arm.mode for arm in record.arms]
        assert record.arms[0].tokens == record.arms[1].tokens
        assert record.arms[1].memory.kv_cache_bytes == record.arms[1].memory.kv_cache_predicted_bytes
        assert record.comparison is not None
        assert record.comparison.agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")

    def test_measures_arms_that_differ_in_any_part(self, loaded: tuple[Any, Any]) -> None:
        arms = [{"mode": "nocache"}, {"mode": "nocache", "bucket": 16}, {"mode": "cached", "cache": "static"}]
        record = kvbench.measure(*loaded, "a prompt", arms=arms, new_tokens=6, blocks=5)
        assert [None, 16, None] == [arm.bucket for arm in record.arms]
        assert "static" == record.arms[2].cache
        # Contexts of 9 to 13 tokens in 16 each, that is 80 for 55.
        assert [0.0, 80 / 55 - 1, None] == [arm.padding_share for arm in record.arms]
        with pytest.raises(ConfigError, match=r"arms\[1\]\.engin: no such key; did you mean engine\? allowed: mode, "):
            kvbench.measure(*loaded, "a", arms=[arms[0], {"mode": "cached", "engin": "compiled"}])
        with pytest.raises(ConfigError, match=r"arms\[0\]\.engine=steam: not known"):
            kvbench.measure(*loaded, "a", arms=[{"mode": "cached", "engine": "steam"}])
        with pytest.raises(ConfigError, match="arms: not with modes or attention"):
            kvbench.measure(*loaded, "a", arms=arms, attention="math")

    def test_measures_any_modes_prompts_and_batches(self, loaded: tuple[Any, Any]) -> None:
        record = kvbench.measure(
            *loaded, ["one", "another one", "三"], modes=("generate", "cached"), new_tokens=4, batch_size=2, blocks=5
        )
        assert record.workload is not None
        assert 3 == len(record.workload.prompt_tokens) == len(record.arms[0].tokens)
        assert ("generate", "cached") == (record.arms[0].mode, record.arms[1].mode)

    def test_leaves_the_model_as_it_found_it(self, loaded: tuple[Any, Any]) -> None:
        model, tokenizer = loaded
        model.train()
        before = model.config._attn_implementation
        kvbench.measure(model, tokenizer, "a", modes=("cached",), new_tokens=3, blocks=1, attention="eager")
        assert model.training
        assert before == model.config._attn_implementation

    def test_tells_of_its_progress(self, loaded: tuple[Any, Any]) -> None:
        phases: list[str] = []
        kvbench.measure(
            *loaded,
            "a",
            new_tokens=3,
            blocks=2,
            on_event=lambda event: phases.append(event.phase) if isinstance(event, Progress) else None,
        )
        # What the machine did in a first visit decides if that is looked into: the only phase that may be there or not.
        told = [phase for phase in dict.fromkeys(phases) if phase != "first visits explained"]
        assert ["first visit", "memory and proof", "agreement", "warm-up", "blocks", "what a step is made of"] == told

    def test_refuses_what_the_command_line_refuses(self, loaded: tuple[Any, Any]) -> None:
        with pytest.raises(ConfigError, match=r"arms\[0\]\.mode=bogus"):
            kvbench.measure(*loaded, "a", modes=("bogus",))
        with pytest.raises(ConfigError, match=r"workload\.new_tokens=600"):
            kvbench.measure(*loaded, "a", new_tokens=600)


class TestAModelOfOnesOwn:
    def test_is_measured_without_a_tokenizer_and_left_as_it_was(self) -> None:
        space: dict[str, Any] = {"__name__": "readme"}
        exec(nano(), space)
        model = space["Nano"](n_layer=2, n_head=2, width=32).train()
        record = kvbench.measure(model, prompts="a prompt", new_tokens=4, blocks=5, warmup=0, step_lane=False)
        assert ("ok", "Nano") == (record.status, (record.model or {})["name"])
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_package_offers_exactly_this() -> None:
    assert ["measure"] == kvbench.__all__
