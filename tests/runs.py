"""What a run of the scripted model gives: its record as data, or its samples without a record."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from kvbench.config.compose import load_config, sources
from kvbench.plan import Plan, make_plan
from kvbench.records.samples import RunSamples
from kvbench.records.store import find_runs
from kvbench.running.job import run_job
from kvbench.running.scripted import ScriptedBackend

SCRIPTED = ("model=scripted", "launch=inline", "report=false", "stream.interval=0")


def the_record(results: Path) -> dict[str, Any]:
    """The record of the only run below a folder."""
    (run,) = find_runs([results]).runs
    data: dict[str, Any] = json.loads(run.record.model_dump_json())
    return data


def scripted_samples(*overrides: str) -> tuple[Plan, RunSamples]:
    """A short run's plan and samples, whole and valid; measured once, and everybody's own to change."""
    plan, samples = _measured(*overrides)
    return plan, deepcopy(samples)


@cache
def _measured(*overrides: str) -> tuple[Plan, RunSamples]:
    short = ("model=scripted", "workload.prompt_tokens=5", "workload.new_tokens=4", "stream.interval=0")
    plan = make_plan(load_config([*short, *overrides], sources()))
    samples = RunSamples()
    run_job(ScriptedBackend(plan.config.model).session(plan), samples.add)
    return plan, samples
