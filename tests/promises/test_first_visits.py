"""What a first visit costs is kept apart, and where it costs much the record holds the evidence of what it pays for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.records.store import find_runs

Run = Callable[..., tuple[int, str, str]]

SCRIPT = (
    "model=scripted",
    "model.prefill_s=0.5",
    "model.cached_step_s=0.012",
    "model.nocache_step_s=0.012",
    "workload.prompt_tokens=10",
    "workload.new_tokens=5",
    "launch=inline",
    "report=false",
)


@pytest.fixture
def measured(scripted: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def run(*overrides: str) -> dict[str, Any]:
        return scripted(*SCRIPT, *overrides)

    return run


Measured = Callable[..., dict[str, Any]]


class TestAPlanForEveryNewLength:
    """As the default attention of an H200 builds one: 62 of 74 ms."""

    def test_is_in_the_first_visit_and_in_no_other_figure(self, measured: Measured) -> None:
        for arm in measured("model.unseen_length_s=0.062")["arms"]:
            assert (0.074, 0.012) == pytest.approx((arm["cold"]["itl_s"], arm["itl_s"]["value"]))
            assert [[pytest.approx(0.074)] * 4] == arm["cold"]["step_s"]

    def test_is_paid_again_at_unseen_lengths_and_not_under_another_attention(self, measured: Measured) -> None:
        for arm in measured("model.unseen_length_s=0.062")["arms"]:
            assert [("auto", 0.074, 0.012), ("math", 0.012, 0.012)] == [
                (probe["attention"], pytest.approx(probe["first_itl_s"]), pytest.approx(probe["second_itl_s"]))
                for probe in arm["cold"]["probes"]
            ]

    def test_is_looked_for_at_lengths_that_no_visit_has_seen(self, measured: Measured) -> None:
        run = measured("model.unseen_length_s=0.062")
        contexts = [
            range(probe["context_length"], probe["context_length"] + probe["steps"])
            for arm in run["arms"]
            for probe in arm["cold"]["probes"]
        ]
        assert min(map(min, contexts)) > 10 + 5
        assert sum(map(len, contexts)) == len({length for each in contexts for length in each})

    def test_leaves_another_attention_of_the_user_s_alone(self, measured: Measured) -> None:
        run = measured("model.unseen_length_s=0.062", "attention=math")
        assert [None, None] == [arm["cold"]["probes"] for arm in run["arms"]]

    def test_does_not_break_a_run_that_ends_at_stop_tokens(self, measured: Measured) -> None:
        run = measured("model.unseen_length_s=0.062", f"workload.stop=[{ord('a') + 13}]")
        assert "ok" == run["status"]


class TestNoEvidence:
    def test_is_looked_for_where_the_first_visit_cost_no_more(self, measured: Measured) -> None:
        run = measured()
        assert [None, None] == [arm["cold"]["probes"] for arm in run["arms"]]
        assert "1.00 times a warm one's" in run["null_reasons"]["/arms/0/cold/probes"]

    def test_is_there_without_a_warm_visit(self, measured: Measured) -> None:
        run = measured("measure.warmup=0", "model.unseen_length_s=1")
        assert "no warm visit" in run["null_reasons"]["/arms/1/cold/probes"]


def test_a_real_model_is_probed_too(run_kvbench: Run, tmp_path: Path) -> None:
    code, _, _ = run_kvbench(
        *("workload.prompt_tokens=7", "workload.new_tokens=4", "measure.blocks=1", "mode=cached"),
        *("launch=inline", "report=false", "device=cpu"),
    )
    assert 0 == code
    (found,) = find_runs([tmp_path / "results"]).runs
    cold = found.record.arms[0].cold
    reason = found.record.null_reasons.get("/arms/0/cold/probes", "")
    # On a CPU either is right: what matters is that there is the one or the other.
    assert (cold.probes is None) == ("times a warm one's" in reason)


def test_a_run_with_inserted_messages_is_not_probed_and_goes_on(
    run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe once had no room for the message, and its failure ended the run."""
    monkeypatch.setattr("kvbench.running.visits.NOTEWORTHY", 0.0)
    code, _, _ = run_kvbench(
        *("arms=[{mode: nocache},{mode: resumed}]", "interrupt.message=Why?", "workload.new_tokens=8"),
        "workload.prompt_tokens=12",
        *("measure.blocks=5", "launch=inline", "report=false", "device=cpu", "stream.interval=0"),
    )
    (found,) = find_runs([tmp_path / "results"]).runs
    assert (0, [None, None]) == (code, [arm.cold.probes for arm in found.record.arms])
    assert "interrupted" in found.record.null_reasons["/arms/0/cold/probes"]
