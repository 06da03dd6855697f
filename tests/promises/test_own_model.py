"""Somebody who adds a cache to a model of their own learns whether it is right and whether it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from own_models import ALL_AGAIN, NO_CACHE, WRONG_POSITION, nano

from kvbench.records.run_record import RunRecord
from kvbench.records.store import find_runs

Run = Callable[..., tuple[int, str, str]]

SMALL = ("model.options={n_layer: 2, n_head: 2, width: 32}", "workload.new_tokens=6", "stream.interval=0")
QUICK = ("launch=inline", "threads=1", "measure.warmup=0", "measure.step_lane=false", "report=false", "device=cpu")
VALID = ("measure.blocks=5", "workload.prompt_tokens=9")
ONE_BLOCK = ("measure.blocks=1", "workload.prompt_tokens=9")  # INVALID for that too, and quick


@pytest.fixture
def target(tmp_path: Path) -> Iterator[str]:
    """The documentation's model as a module of the current folder, under a name that no other test has taken."""
    name = f"own_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(nano())
    before = list(sys.path)
    yield name
    sys.path[:] = before
    sys.modules.pop(name, None)


@pytest.fixture
def own(tmp_path: Path, run_kvbench: Run, target: str) -> Run:
    """Measures a source: `own(nano(change), "measure.blocks=5")`."""

    def measure(source: str, *arguments: str) -> tuple[int, str, str]:
        (tmp_path / f"{target}.py").write_text(source)
        return run_kvbench("model=python", f"model.target={target}:Nano", *SMALL, *QUICK, "name=Nano", *arguments)

    return measure


def record(tmp_path: Path) -> RunRecord:
    (run,) = find_runs([tmp_path / "results"]).runs
    return run.record


def flat(text: str) -> str:
    """What the terminal shows, without the lines and the frame it is broken into."""
    return " ".join(text.replace("│", " ").split())


class TestARightCache:
    def test_is_valid_and_equal_within_rounding(self, own: Run, tmp_path: Path) -> None:
        code, said, error = own(nano(), *VALID)
        assert code == 0, said + error
        found = record(tmp_path)
        assert found.comparison is not None
        assert found.comparison.agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
        assert found.comparison.agreement.error is not None
        assert "float64" == found.comparison.agreement.error.reference
        assert [0, 0] == [arm.proof.violations for arm in found.arms]
        assert ["none", "own"] == [arm.cache for arm in found.arms]

    def test_has_its_bytes_counted_and_not_predicted(self, own: Run, tmp_path: Path) -> None:
        own(nano(), *ONE_BLOCK)
        found = record(tmp_path)
        held = 9 + 6 - 1  # the newest token is never handed in
        assert 2 * 2 * held * 32 * 4 == found.arms[1].memory.kv_cache_bytes
        assert found.arms[1].memory.kv_cache_predicted_bytes is None
        reason = found.null_reasons["/arms/1/memory/kv_cache_predicted_bytes"]
        assert reason == "no formula for a cache of one's own; its tensors are counted"

    def test_is_described_by_what_the_object_tells(self, own: Run, tmp_path: Path) -> None:
        own(nano(), *ONE_BLOCK)
        model: dict[str, Any] = record(tmp_path).model or {}
        assert ("Nano", "python", "float32", 256, 2048) == tuple(
            model[key] for key in ("name", "source", "dtype", "vocab_size", "max_context")
        )
        assert 4 * model["parameters"] == model["weight_bytes"]

    def test_takes_batches_interruptions_traces_and_another_dtype(self, own: Run, tmp_path: Path) -> None:
        code, said, error = own(
            nano(), *ONE_BLOCK, "measure.step_lane=true", "workload.batch_size=2", "model.dtype=bfloat16",
            "mode=resumed", "interrupt.steps=[2,4]", "interrupt.message=and?", "trace.probabilities=true",
        )  # fmt: skip
        assert code == 3, said + error
        found = record(tmp_path)
        assert [0, 0] == [arm.proof.violations for arm in found.arms]
        assert "bfloat16" == (found.model or {})["dtype"]
        assert ["blocks"] == [check.name for check in found.checks if not check.passed]


class TestAWrongCache:
    def test_is_a_mismatch(self, own: Run, tmp_path: Path) -> None:
        code, said, _ = own(nano(WRONG_POSITION), *VALID)
        found = record(tmp_path)
        assert (3, "invalid") == (code, found.status)
        assert found.comparison is not None
        assert "MISMATCH" == found.comparison.agreement.verdict
        assert ["agreement"] == [check.name for check in found.checks if not check.passed]
        assert "MISMATCH" in said


class TestACacheThatIsNotUsed:
    def test_is_seen_although_it_is_right_and_one_token_is_handed_in(self, own: Run, tmp_path: Path) -> None:
        code, said, _ = own(nano(ALL_AGAIN), *VALID)
        found = record(tmp_path)
        assert (3, ["mode_proof"]) == (code, [check.name for check in found.checks if not check.passed])
        assert found.comparison is not None
        assert found.comparison.agreement.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
        assert [0, 5] == [arm.proof.violations for arm in found.arms]
        assert "Your cached loop submitted all tokens at every step: the cache is not used" in flat(said)


class TestAModelWithoutACache:
    def test_can_be_measured_without_one(self, own: Run) -> None:
        code, said, error = own(nano(NO_CACHE), *ONE_BLOCK, "mode=nocache")
        assert code == 0, said + error

    def test_is_told_what_to_add_for_one(self, own: Run, tmp_path: Path) -> None:
        code, _, error = own(nano(NO_CACHE), *ONE_BLOCK)
        assert code == 2
        assert error.endswith(
            ":Nano: the model has no new_cache(batch_size), so mode=cached cannot run: add it (see"
            " kvbench/own_model.py), or use mode=nocache\n"
        )
        assert not list(tmp_path.rglob("run.json"))


class TestPromptsOfABatch:
    def test_of_other_lengths_are_refused(self, own: Run, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_text("one\nthree\n")
        arguments = ("workload.prompts=p.txt", "workload.batch_size=2", "measure.blocks=1")
        code, _, error = own(nano(), *arguments)
        assert (2, True) == (code, "set workload.batch_size=1, or one length by workload.prompt_tokens" in error), error


class TestASweep:
    def test_over_options_is_of_different_models(self, run_kvbench: Run, tmp_path: Path, target: str) -> None:
        sweep = ("-m", "model=python", f"model.target={target}:Nano", "model.options.n_layer=1,2", "mode=cached")
        small = ("model.options.width=32", "model.options.n_head=2", "workload.new_tokens=4", "stream.interval=0")
        code, said, error = run_kvbench(*sweep, *small, *QUICK, *ONE_BLOCK)
        assert code == 0, said + error
        found = [run.record for run in find_runs([tmp_path / "results"]).runs]
        assert 2 == len({each.keys.compare_key for each in found})
        assert 2 == len({(each.model or {})["parameters"] for each in found})

    def test_started_again_measures_what_was_edited(self, run_kvbench: Run, tmp_path: Path, target: str) -> None:
        sweep = ("-m", "model=python", f"model.target={target}:Nano", *SMALL, *QUICK, *ONE_BLOCK, "mode=cached")
        assert 0 == run_kvbench(*sweep)[0]
        assert "left out, measured before" in run_kvbench(*sweep)[1]
        (tmp_path / f"{target}.py").write_text(nano() + "# edited\n")
        assert "left out" not in run_kvbench(*sweep)[1]
        assert 2 == len(find_runs([tmp_path / "results"]).runs)


def test_a_worker_finds_the_target_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "nano.py").write_text(nano())
    arguments = ["model=python", "model.target=nano:Nano", *SMALL, *QUICK, *ONE_BLOCK, "mode=cached", "launch=worker"]
    root = str(Path(__file__).parents[2])
    program = "import sys; from kvbench.__main__ import main; sys.exit(main(sys.argv[1:]))"
    guarded = tmp_path / "elsewhere" / "start.py"  # as the `kvbench` script, whose folder is not the current one
    guarded.parent.mkdir()
    guarded.write_text(f"if __name__ == '__main__':\n    {program}\n")
    ended = subprocess.run(
        [sys.executable, str(guarded), *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert 0 == ended.returncode, ended.stdout + ended.stderr
