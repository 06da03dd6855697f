"""`audit=true` puts the instrument to the test, and an audit that fails makes the run INVALID."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvbench.analysis.audits import audit_checks, audits
from kvbench.config.compose import load_config, sources
from kvbench.plan import Plan, make_plan
from kvbench.records.samples import RunSamples, Watching
from kvbench.records.store import find_runs
from kvbench.records.timings import AuditBlock
from kvbench.running.job import run_job
from kvbench.running.scripted import ScriptedBackend

Run = Callable[..., tuple[int, str, str]]

QUICK = ("model=scripted", "workload.prompt_tokens=5", "workload.new_tokens=4", "stream.interval=0", "audit=true")


def record(folder: Path) -> dict[str, Any]:
    (run,) = find_runs([folder]).runs
    data: dict[str, Any] = json.loads(run.record.model_dump_json())
    return data


def measured() -> tuple[Plan, RunSamples]:
    """A scripted run's plan and samples."""
    plan = make_plan(load_config(list(QUICK), sources()))
    samples = RunSamples()

    def keep(message: object) -> None:
        if type(message).__name__ not in ("Progress", "Watching"):
            samples.add(message)  # type: ignore[arg-type]

    run_job(ScriptedBackend(plan.config.model).session(plan), keep)
    return plan, samples


def with_audits(samples: RunSamples, condition: str, factors: list[float]) -> RunSamples:
    """The same samples, but one condition of the second arm took so many times as long, block by block."""

    def changed(block: AuditBlock) -> AuditBlock:
        factor = factors[block.index % len(factors)] if block.arm == 1 else 1.0
        return replace(
            block,
            ttft_s={**block.ttft_s, condition: block.ttft_s[condition] * factor},
            decode_s={**block.decode_s, condition: block.decode_s[condition] * factor},
        )

    return replace(samples, audits=list(map(changed, samples.audits)))


def failing(plan: Plan, samples: RunSamples) -> list[str]:
    return [check.name for check in audit_checks(plan, samples) if not check.passed]


class TestASoundInstrument:
    @pytest.mark.parametrize("launch", ["inline", "worker"])
    def test_passes_every_audit(self, run_kvbench: Run, tmp_path: Path, launch: str) -> None:
        code, out, _ = run_kvbench(*QUICK, f"launch={launch}", "report=false")
        run = record(tmp_path / "results")
        assert 0 == code
        assert ["timed_tokens", "same_arm_twice", "fresh_prompts", "cost_of_memory_poller", "cost_of_steps_lane"] == [
            audit["name"] for audit in run["audits"] if audit["arm"] == 1
        ]
        assert [True, True, True, None, None] * 2 == [audit["passed"] for audit in run["audits"]]
        assert {1.0} == {audit["ratio"]["value"] for audit in run["audits"] if audit["ratio"]}
        assert "audit_same_arm_twice" in out

    def test_is_not_audited_unless_asked(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*QUICK, "audit=false", "launch=inline", "report=false")
        run = record(tmp_path / "results")
        assert [] == run["audits"]
        assert [] == [check["name"] for check in run["checks"] if check["name"].startswith("audit")]

    def test_visits_every_arm_under_every_condition_and_looks_away_in_one(self) -> None:
        plan = make_plan(load_config([*QUICK, "measure.blocks=6"], sources()))
        heard: list[Any] = []
        run_job(ScriptedBackend(plan.config.model).session(plan), heard.append)
        blocks = [message for message in heard if isinstance(message, AuditBlock)]
        assert [(index, arm) for index in range(6) for arm in (0, 1)] == [(each.index, each.arm) for each in blocks]
        assert {("again", "fresh", "repeat", "unwatched")} == {tuple(sorted(each.decode_s)) for each in blocks}
        looks = [message.on for message in heard if isinstance(message, Watching)]
        assert [False, True] * 12 == looks
        assert len({tuple(each.decode_s) for each in blocks}) > 1  # in random order


class TestAnAudit:
    def test_finds_one_arm_measured_differently_the_second_time(self) -> None:
        plan, samples = measured()
        assert [] == failing(plan, samples)
        assert ["audit_same_arm_twice"] == failing(plan, with_audits(samples, "again", [1.05, 1.051]))

    def test_finds_repeated_prompts_that_are_faster_than_fresh_ones(self) -> None:
        plan, samples = measured()
        assert ["audit_fresh_prompts"] == failing(plan, with_audits(samples, "fresh", [1.5, 1.51]))

    def test_minds_no_repeated_prompt_that_is_slower(self) -> None:
        plan, samples = measured()
        assert [] == failing(plan, with_audits(samples, "fresh", [0.5, 0.51]))

    def test_finds_timed_tokens_that_are_not_the_untimed_ones(self) -> None:
        plan, samples = measured()
        block = samples.all_blocks[0]
        visits = (replace(block.visits[0], tokens_sha256="other"), *block.visits[1:])
        other = replace(samples, all_blocks=[replace(block, visits=visits), *samples.all_blocks[1:]])
        assert ["audit_timed_tokens"] == failing(plan, other)

    def test_tells_what_the_memory_poller_costs(self) -> None:
        plan, samples = measured()
        (cost,) = [
            audit.ratio
            for audit in audits(plan, with_audits(samples, "unwatched", [0.9]))
            if audit.name == "cost_of_memory_poller" and audit.arm == 1
        ]
        assert cost is not None
        assert pytest.approx(0.9) == cost.value  # watched, it decodes at nine tenths of the speed
