"""Rotary positions that depend on how long the text is: longrope's switch, and dynamic NTK beyond its context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import transformers

import kvbench
from kvbench.decoding.protocol import Pass
from kvbench.errors import ConfigError
from kvbench.model_facts import extends_context, rope_switch
from kvbench.passes import prove

QUICK: dict[str, Any] = {"blocks": 1, "warmup": 0, "step_lane": False, "energy_s": 0.0}
LONGROPE: dict[str, Any] = {
    "num_hidden_layers": 1,
    "sliding_window": None,
    "original_max_position_embeddings": 16,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 4,
        "long_factor": [1.0, 3.0, 5.0, 7.0],
        "original_max_position_embeddings": 16,
    },
}
DYNAMIC: dict[str, Any] = {
    "num_hidden_layers": 1,
    "max_position_embeddings": 16,
    "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
}


class TestLongrope:
    @pytest.mark.skipif(transformers.__version__ < "5.23", reason="5.17 prefills again elsewhere, and differs")
    def test_is_prefilled_again_by_generate_which_is_valid(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("phi3", **LONGROPE)
        assert (16, False) == (rope_switch(model.config), extends_context(model.config))
        ids = list(range(20, 33))
        record = kvbench.measure(model, prompts=[ids], new_tokens=8, modes=("nocache", "generate", "cached"), **QUICK)
        verdicts = {each.candidate_arm: each.agreement.verdict for each in record.comparisons}
        assert verdicts[1] in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
        assert "MISMATCH" == verdicts[2]
        assert [True] == [each.passed for each in record.checks if each.name == "mode_proof"]

    def test_is_not_crossed_by_padding(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("phi3", **LONGROPE)
        arms = [{"mode": "nocache"}, {"mode": "nocache", "bucket": 12}]
        with pytest.raises(ConfigError, match=r"bucket=12: passes are padded beyond 16 tokens, .* \(longrope\)"):
            kvbench.measure(model, prompts=[[5] * 13], new_tokens=2, arms=arms, **QUICK)
        kvbench.measure(model, prompts=[[5] * 3], new_tokens=2, arms=arms, **QUICK)

    def test_excuses_no_other_pass_that_submits_everything(self) -> None:
        again = [Pass(3, 0, 3), Pass(4, None, None), Pass(1, 4, 5)]
        assert 0 == prove(again, 3, True, refill_at=4).violations
        for at in (None, 3, 5):
            assert 1 == prove(again, 3, True, refill_at=at).violations
        assert 1 == prove([Pass(3, 0, 3), Pass(4, 3, 7)], 3, True, refill_at=4).violations


class TestDynamicNtk:
    def test_is_measured_beyond_the_stated_context(self, tiny_model: Callable[..., Any]) -> None:
        model = tiny_model("llama", **DYNAMIC)
        record = kvbench.measure(model, prompts=[[5] * 13], new_tokens=8, modes=("nocache",), **QUICK)
        assert (None, "ok") == ((record.model or {})["max_context"], record.status)
        arms = [{"mode": "nocache", "bucket": 12}]
        with pytest.raises(ConfigError, match=r"beyond 16 tokens, .* \(dynamic NTK\): use bucket=1"):
            kvbench.measure(model, prompts=[[5] * 13], new_tokens=2, arms=arms, **QUICK)
