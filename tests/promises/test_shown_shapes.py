"""`show --shapes` tells from the record what the model returned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from kvbench.records.store import find_runs

Run = Callable[..., tuple[int, str, str]]
QUICK = (
    *("launch=inline", "threads=1", "measure.blocks=1", "measure.warmup=0", "report=false"),
    *("workload.prompt_tokens=7", "workload.new_tokens=4"),
)


def test_every_part_of_every_mode_is_shown_and_timed_runs_are_not_touched_by_what_is_asked_for(
    run_kvbench: Run, tmp_path: Path
) -> None:
    run_kvbench(*QUICK, "name=plain")
    run_kvbench(*QUICK, "name=asked", "shapes.hidden_states=true", "shapes.attentions=true")
    plain, asked = (find_runs([tmp_path / "results" / name]).runs[0].record for name in ("plain", "asked"))
    assert [arm.tokens for arm in plain.arms] == [arm.tokens for arm in asked.arms]
    assert plain.comparison is not None
    assert asked.comparison is not None
    assert plain.comparison.agreement.max_abs_logit_diff == asked.comparison.agreement.max_abs_logit_diff
    code, said, _ = run_kvbench("show", "--shapes", "results/asked")
    assert code == 0
    for part in ("prefill", "one step of nocache", "one step of cached", "logits", "cache layers 0–3:"):
        assert part in said
    for part in ("hidden_states 0–4", "attentions 0–3"):
        assert part in said
    _, told, _ = run_kvbench("show", "--shapes", "--json", "results/asked")
    shapes = json.loads(told)
    assert {"prefill", "nocache", "cached"} == set(shapes)
    assert [1, 4, 1, 8] == shapes["cached"]["attentions"][0]["shape"]


def test_two_arms_of_one_mode_are_told_apart(run_kvbench: Run) -> None:
    arms = "arms=[{mode: cached},{mode: cached, attention: eager},{mode: cached}]"
    run_kvbench(*QUICK, arms, "check.agreement=none")
    _, plain, _ = run_kvbench("show", "--shapes", "--json", "results")
    assert {"prefill", "cached", "cached (eager)", "cached #3"} == set(json.loads(plain))


def test_a_run_without_tensors_and_a_folder_of_runs_are_refused_in_one_line(run_kvbench: Run) -> None:
    run_kvbench("model=scripted", *QUICK)
    code, _, error = run_kvbench("show", "--shapes", "results")
    assert (2, True) == (code, "has no shapes" in error), error
    run_kvbench("model=scripted", *QUICK)
    code, _, error = run_kvbench("show", "--shapes", "results")
    assert (2, True) == (code, "name one run folder" in error), error


def test_records_of_the_first_version_are_shown_too(run_kvbench: Run) -> None:
    reference = Path(__file__).parents[2] / "docs/measured/records/nvidia-h200-gemma2b-random/prompt-128"
    code, said, _ = run_kvbench("show", "--shapes", str(reference))
    assert (0, True) == (code, "cache layers 0–17:" in said), said
