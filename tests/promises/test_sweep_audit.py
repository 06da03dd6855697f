"""`audit=true` on a sweep measures its first point once more at the end and says whether the sweep held still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvbench.commands import sweep as sweep_command
from kvbench.errors import ConfigError
from kvbench.records.run_record import RunRecord
from kvbench.records.store import find_runs, finished_runs
from kvbench.running.scripted import ScriptedBackend, ScriptedSession

Run = Callable[..., tuple[int, str, str]]

QUICK = (
    *("-m", "model=scripted", "workload.prompt_tokens=5", "workload.new_tokens=4", "measure.warmup=0", "audit=true"),
    *("launch=inline", "report=false", "mode=cached"),
)


@pytest.fixture
def swept(run_kvbench: Run, tmp_path: Path) -> Callable[..., tuple[int, str, list[RunRecord]]]:
    def sweep(*overrides: str) -> tuple[int, str, list[RunRecord]]:
        code, out, _ = run_kvbench(*QUICK, *overrides)
        runs = sorted((run.record for run in find_runs([tmp_path / "results"]).runs), key=lambda run: run.created_at)
        return code, " ".join(out.split()), runs

    return sweep


Swept = Callable[..., tuple[int, str, list[RunRecord]]]


@pytest.fixture
def slower(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs of this process take longer from the third one on: their steps, or their host's checks too."""

    def make(steps: float, host: float = 1.0) -> None:
        opened = 0

        def session(backend: ScriptedBackend, plan: object) -> ScriptedSession:
            nonlocal opened
            opened += 1
            if opened >= 3:
                backend.spec.cached_step_s = 0.001 * steps
            made = ScriptedSession(backend, plan)  # type: ignore[arg-type]
            if opened >= 3:
                check = made.untimed.host_check
                made.untimed = replace(
                    made.untimed, host_check=lambda run: check(run).model_copy(update={"launch_s": 4e-6 * host})
                )
            backend.spec.cached_step_s = 0.001 * (steps if opened >= 3 else 1.0)
            return made

        monkeypatch.setattr(ScriptedBackend, "session", session)

    return make


def test_a_sweep_that_held_still_says_so(swept: Swept) -> None:
    code, out, (first, other, again) = swept("workload.batch_size=1,2")
    assert 0 == code
    assert (None, None) == (first.sweep_audit, other.sweep_audit)
    assert again.sweep_audit is not None
    assert (first.run_id, True) == (again.sweep_audit.first_run_id, again.sweep_audit.held_still)
    assert first.config == again.config
    assert "the sweep held still: its first point, measured again at the end, is within 5%: a decode step" in out
    assert "cached took 1.00 ms at the beginning and 1.00 ms at the end (1.00 times [1.00, 1.00])" in out
    assert [] == [warning for warning in again.warnings if warning.code == "sweep_moved"]


def test_one_that_did_not_is_a_warning_with_what_moved(swept: Swept, slower: Callable[..., None]) -> None:
    slower(1.2)
    code, out, (*_, again) = swept("workload.batch_size=1,2")
    assert (0, "ok") == (code, again.status)  # the host may have done it
    assert again.sweep_audit is not None
    assert (False, ["SLOWER"]) == (again.sweep_audit.held_still, [arm.verdict for arm in again.sweep_audit.arms])
    detail = (
        "the sweep did not hold still: a decode step of cached took 1.00 ms at the beginning and 1.20 ms at the end"
        " (1.20 times [1.20, 1.20]), and the host's own checks did not change: times of its points cannot be compared"
        " with one another, speed-ups within a point can"
    )
    assert detail == again.sweep_audit.detail
    assert [detail] == [warning.detail for warning in again.warnings if warning.code == "sweep_moved"]
    assert detail in out


def test_says_when_the_host_moved_too(swept: Swept, slower: Callable[..., None]) -> None:
    slower(0.8, host=0.75)
    _, _, (*_, again) = swept("workload.batch_size=1,2")
    assert again.sweep_audit is not None
    assert ["FASTER"] == [arm.verdict for arm in again.sweep_audit.arms]
    assert (
        ", and the host changed as well: a small operation took 4.00 µs and 3.00 µs (-25%): times"
        in again.sweep_audit.detail
    )


@pytest.mark.parametrize(("steps", "held"), [(1.04, True), (1.051, False), (0.97, True), (0.95, False)])
def test_the_band_is_that_of_compare(swept: Swept, slower: Callable[..., None], steps: float, held: bool) -> None:
    slower(steps)
    *_, again = swept("workload.batch_size=1,2")[2]
    assert again.sweep_audit is not None
    assert held == again.sweep_audit.held_still


def test_without_intervals_it_cannot_be_told(swept: Swept) -> None:
    _, out, (*_, again) = swept("workload.batch_size=1,2", "measure.blocks=5")
    assert again.sweep_audit is not None
    assert again.sweep_audit.held_still is None
    assert "whether the sweep held still cannot be told: increase measure.blocks, six give an interval" in out
    assert "/sweep_audit/held_still" in again.null_reasons


def test_a_refused_first_point_is_not_what_is_repeated(swept: Swept) -> None:
    code, _, runs = swept("workload.new_tokens=1,5,6")
    again = runs[-1]
    assert (1, 4) == (code, len(runs))
    assert again.sweep_audit is not None
    assert 5 == again.config["workload"]["new_tokens"]


def test_nothing_is_repeated_unless_it_is_asked_for_and_something_was_measured(swept: Swept) -> None:
    assert 2 == len(swept("workload.batch_size=1,2", "audit=false")[2])


def test_what_was_measured_before_is_not_what_is_repeated(swept: Swept) -> None:
    swept("workload.batch_size=1,2")
    _, out, runs = swept("workload.batch_size=1,2")
    assert 3 == len(runs)
    assert "[audit]" not in out


def test_its_repeat_does_not_take_the_place_of_the_point_that_was_measured(swept: Swept, tmp_path: Path) -> None:
    _, _, (first, _, again) = swept("workload.batch_size=1,2")
    assert first.keys.resume_key == again.keys.resume_key
    place = finished_runs(tmp_path / "results")[first.keys.resume_key]
    assert first.run_id == place.name


def test_that_is_refused_at_the_end_leaves_the_sweep_its_report(swept: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone_at_the_end(*_: Any) -> Any:
        raise ConfigError("workload.prompts=gone.txt: no such file")

    monkeypatch.setattr(sweep_command, "measure_point", gone_at_the_end)  # which the repeat alone is measured by
    code, out, runs = swept("workload.batch_size=1,2")
    assert (0, 2) == (code, len(runs))
    assert "the sweep could not be audited: workload.prompts=gone.txt: no such file" in out
