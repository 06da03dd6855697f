"""Growth, break-even and limits through the whole program: command line, record, terminal and exports."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from kvbench.records.ceilings import Ceilings, MatrixRate, ReadRate, fingerprint, keep_ceilings
from kvbench.records.run_record import RunRecord
from kvbench.records.store import find_runs
from kvbench.running.scripted import environment_of_script

Run = Callable[..., tuple[int, str, str]]
SCALING = (
    "experiment=scaling",
    "model=scripted",
    "launch=inline",
    "report=false",
    "model.nocache_step_s=0.001",
    "model.cached_step_s=0.002",
    "model.nocache_per_token_s=1e-6",
    "model.nocache_per_token2_s=1e-9",
)
CROSSING = 618  # where 1 ms + 1 µs·L + 1 ns·L² is 2 ms


def record(folder: Path) -> RunRecord:
    (run,) = find_runs([folder]).runs
    return run.record


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_scripted_law_comes_out_in_record_terminal_and_exports(run_kvbench: Run, tmp_path: Path) -> None:
    code, out, _ = run_kvbench(*SCALING)
    run = record(tmp_path / "results")
    assert code == 0
    assert run.growth is not None
    assert run.comparison is not None
    assert (CROSSING, CROSSING) == (run.comparison.break_even_context, run.comparisons[0].break_even_context)
    assert [0.0, 0.0] == pytest.approx([check.error for check in run.growth.decodes], abs=1e-6)
    shown = run_kvbench("show", "results")[1]
    for text in map(flat, (out, shown)):
        assert "TTFT, ITL, rates and the speed-up are over all lengths together" in text
        assert "a step of nocache takes 6.77× [6.77, 6.77] as long (quadratic)" in text
        assert "The claim that O(n) per token becomes O(1) holds at these lengths" in text
        assert f"from about {CROSSING} tokens on a step of cached is faster than one of nocache (95 % interval" in text
        assert "per token 1.00 µs [1.00, 1.00]" in text
    nocache, cached = csv.DictReader(io.StringIO(run_kvbench("export", "results", "--format", "csv")[1]))
    assert 1e-9 == pytest.approx(float(nocache["growth_per_token2_s"]))
    assert ("quadratic", "constant", str(CROSSING)) == (
        nocache["growth_order"],
        cached["growth_order"],
        cached["break_even_context"],
    )
    markdown = run_kvbench("export", "results", "--format", "md")[1]
    assert "| growth | quadratic | constant |" in markdown
    assert "- Break-even of cached (dynamic) against nocache: from about 618 tokens on" in markdown


def test_an_invalid_run_has_points_and_no_answers(run_kvbench: Run) -> None:
    code, out, _ = run_kvbench(*SCALING, "measure.blocks=4")
    assert code == 3
    assert "not a result: Growth with the context" in flat(out)
    assert "from about 618 tokens on" not in flat(out)


def test_a_single_block_says_why_it_has_no_law(run_kvbench: Run, tmp_path: Path) -> None:
    run_kvbench(*SCALING, "measure.blocks=1")
    reasons = record(tmp_path / "results").null_reasons
    assert {"a law with intervals needs at least 2 blocks"} == {
        reasons[pointer] for pointer in ("/growth", "/comparison/break_even_context")
    }


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("scaling.lengths=[64,128,256]", "needs at least 4 different lengths"),
        ("scaling.lengths=[64,64,128,256]", "needs at least 4 different lengths"),
        ("scaling.lengths=[0,64,128,256]", "of 1 or more"),
        ("workload.prompt_tokens=10", "workload.prompt_tokens=10: has no effect with scaling.lengths"),
        ("workload.stop=[1]", "not with scaling.lengths, every step counts; use ignore"),
        ("mode=interrupted", "scaling.lengths: not with an interrupted mode"),
        ("scaling.decode_tokens=-1", "scaling.decode_tokens=-1: must be at least 0"),
    ],
)
def test_lengths_that_give_no_law_are_refused_in_one_line(run_kvbench: Run, override: str, complaint: str) -> None:
    code, out, err = run_kvbench(*SCALING, override)
    assert (2, "", 1) == (code, out, err.count("\n"))
    assert complaint in err


class TestLimits:
    ARGUMENTS = ("model=scripted", "launch=inline", "report=false", "model.parameters=1000000", "stream.interval=0")

    def test_are_told_with_the_ceilings_kept_of_this_machine(self, run_kvbench: Run, tmp_path: Path) -> None:
        keep_ceilings(
            Ceilings(
                fingerprint=fingerprint(environment_of_script()),
                measured_at="2026-11-25T08:00:00+00:00",
                device_name="scripted",
                read=(ReadRate(set_bytes=1, bytes_per_s=1e9),),
                matrix=(MatrixRate(dtype="float16", rows=1, width=8, flops_per_s=1e12),),
                launch_s=1e-6,
            )
        )
        code, out, _ = run_kvbench(*self.ARGUMENTS, "model.cached_step_s=0.004", "workload.prompt_tokens=100")
        run = record(tmp_path / "results")
        assert code == 0
        assert run.ceilings is not None
        assert 0.5 == pytest.approx(run.arms[1].limit.mbu, rel=1e-3)
        text = flat(out)
        assert "hardware limit of a step 2.00 ms" in text
        assert "bound by memory memory" in text
        assert "doctor --ceilings" not in text

    def test_say_in_one_line_how_to_get_them(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
        assert 1 == run_kvbench(*self.ARGUMENTS)[1].count("doctor --ceilings")


def test_predicted_flops_are_those_counted_in_a_real_run(run_kvbench: Run, tmp_path: Path) -> None:
    arguments = ("launch=inline", "report=false", "stream.interval=0", "device=cpu", "measure.blocks=5")
    few = ("workload.prompt_tokens=12", "workload.new_tokens=3", "measure.step_lane=false")
    assert 0 == run_kvbench(*arguments, *few)[0]
    check = record(tmp_path / "results").flops_check
    assert check is not None
    assert check.predicted == pytest.approx(check.counted, rel=0.02)
