"""What the verdicts are worth: how often the program calls equal arms different, and finds a difference that exists.

The scripted model spends 4 decode steps a visit, each with 2 % noise, so that every arm has 1 % noise in every block.
Thousands of runs go through the job and the analysis alone; that these give what the whole program writes into
`run.json` is a test of its own. The seeds are fixed: an assertion that holds once holds always.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scipy.stats import nct, norm, t
from shares import too_few, too_many

from kvbench.analysis.comparison import speedup, verdict_of
from kvbench.analysis.estimates import block_figures
from kvbench.config.compose import load_config, sources
from kvbench.config.schema import Config
from kvbench.display import Display
from kvbench.plan import make_plan
from kvbench.point import measure_point
from kvbench.records.run_record import Speedup
from kvbench.records.timings import Block
from kvbench.running.job import run_job
from kvbench.running.scripted import ScriptedBackend
from kvbench.running.supervisor import InlineRunner

Run = Callable[..., tuple[int, str, str]]
Rates = tuple[list[float | None], list[float | None]]

BLOCKS, STEPS = 8, 4
NOISE = 0.01  # per arm and block
BAND = 0.01  # a smaller difference is nothing to act upon
RUNS = 2000  # 90 % of them have a standard error of 0.7 points
WRITTEN_RUNS = [10, pytest.param(50, marks=pytest.mark.slow)]  # of them, per script, with a record on the disk
TYPED_RUNS = 3  # of them, per script, from the command line on


def script(slower: float, noise: float = NOISE) -> tuple[str, ...]:
    """Two equal arms, or a second one that is `slower` by this share; `noise` is that of a block's mean."""
    candidate = "nocache" if slower else "cached"
    return (
        "model=scripted",
        "launch=inline",
        "report=false",
        "stream.interval=0",
        "check.agreement=none",
        "measure.warmup=0",
        "measure.step_lane=false",
        f"measure.blocks={BLOCKS}",
        "workload.prompt_tokens=1",
        f"workload.new_tokens={STEPS + 1}",
        f"arms=[{{mode: cached}},{{mode: {candidate}}}]",
        "model.cached_step_s=0.01",
        f"model.nocache_step_s={0.01 * (1 + slower)}",
        f"model.noise={noise * math.sqrt(STEPS)}",
    )


@cache
def alike_rates(noise: float, runs: int) -> tuple[Rates, ...]:
    """Tokens per second of two equal arms in every block, of one run per seed from 0 on."""
    config = load_config(script(0.0, noise), sources())
    plan = make_plan(config)
    found = []
    for seed in range(runs):
        blocks: list[Block] = []
        session = ScriptedBackend(replace(config.model, seed=seed)).session(plan)
        run_job(session, lambda sample, kept=blocks: kept.append(sample) if isinstance(sample, Block) else None)
        first, second = ([block.decode_tokens_per_s for block in block_figures(blocks, arm)] for arm in (0, 1))
        found.append((first, second))
    return tuple(found)


def rates(slower: float, noise: float = NOISE, runs: int = RUNS) -> tuple[Rates, ...]:
    """The same with a second arm that is slower.

    Noise multiplies a step's time, so that these are the runs of equal arms with one of them slowed down: to a
    nanosecond what the program writes of a script that says so, which `TestTheWholeProgram` holds against each other.
    """
    return tuple(
        (first, [rate and rate / (1 + slower) for rate in second]) for first, second in alike_rates(noise, runs)
    )


def speedups(runs: Sequence[Rates], blocks: int = BLOCKS) -> list[Speedup]:
    return [speedup(baseline[:blocks], candidate[:blocks]) for baseline, candidate in runs]


def count(verdicts: Sequence[str], *wanted: str) -> int:
    return sum(verdict in wanted for verdict in verdicts)


def holding(ratios: Sequence[Speedup], truth: float) -> int:
    """How many of the intervals hold the true speed-up."""
    return sum(ratio.ci_low <= truth <= ratio.ci_high for ratio in ratios if ratio.ci_low and ratio.ci_high)


def power(slower: float, blocks: int = BLOCKS) -> float:
    """Probability that the whole interval lies below the band, for normal logs with the noise of both arms."""
    error = NOISE * math.sqrt(2 / blocks)
    beyond = (math.log1p(slower) - math.log1p(BAND)) / error
    return float(nct.sf(t.ppf(0.975, blocks - 1), blocks - 1, beyond))


@pytest.fixture
def normal_quantile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's intervals as if it knew the noise instead of estimating it from 8 blocks."""
    monkeypatch.setattr("scipy.special.stdtrit", lambda freedom, probability: norm.ppf(probability))


class TestEqualArms:
    def test_are_called_different_in_at_most_5_percent_of_the_runs(self) -> None:
        """Measured: none of 2000; theory says 2 in 10000, as the band forgives what the interval does not.

        At this noise 205 are SAME and 1795 AMBIGUOUS: 8 blocks seldom prove that two arms are within 1 %.
        """
        different = RUNS - count([verdict_of(ratio) for ratio in speedups(rates(0.0))], "SAME", "AMBIGUOUS")
        assert different <= 0.05 * RUNS
        assert not too_many(different, RUNS, 2 * power(0.0))

    def test_would_fail_this_if_verdicts_looked_at_the_estimate_alone(self) -> None:
        points = [ratio.model_copy(update={"ci_low": ratio.value, "ci_high": ratio.value}) for ratio in alike()]
        different = RUNS - count([verdict_of(point) for point in points], "SAME", "AMBIGUOUS")
        assert too_many(different, RUNS, 2 * power(0.0))

    def test_have_an_interval_that_holds_1_in_95_percent_of_the_runs(self) -> None:
        """Measured: 94.8 % of 2000."""
        hits = holding(alike(), 1.0)
        assert not too_few(hits, RUNS, 0.95, checks=2)
        assert not too_many(hits, RUNS, 0.95, checks=2)

    def test_would_fail_this_with_the_quantile_of_a_normal_law(self, normal_quantile: None) -> None:
        assert too_few(holding(alike(), 1.0), RUNS, 0.95, checks=2)

    def test_are_called_the_same_where_noise_leaves_room_for_it(self) -> None:
        """With 0.2 % noise per arm and block the interval's half width is 0.24 % on average, the band's is 1 %."""
        verdicts = [verdict_of(ratio) for ratio in speedups(rates(0.0, 0.002, 200))]
        assert verdicts == ["SAME"] * 200


class TestADifferenceAtTheEdgeOfTheBand:
    def test_is_called_one_in_at_most_2_5_percent_of_the_runs(self) -> None:
        """The worst case of a difference that is nothing to act upon. Measured: 2.3 % of 2000."""
        assert not too_many(self.found(), RUNS, 0.025)

    def test_would_fail_this_with_the_quantile_of_a_normal_law(self, normal_quantile: None) -> None:
        assert too_many(self.found(), RUNS, 0.025)

    @staticmethod
    def found() -> int:
        return count([verdict_of(ratio) for ratio in speedups(rates(BAND))], "SLOWER", "FASTER")


class TestASlowdownOfThreePercent:
    def test_is_found_in_at_least_90_percent_of_the_runs(self) -> None:
        """Measured: 1829 of 2000 with 8 blocks, where theory says 91.7 %; with 7 blocks it says 86.1 %."""
        found = self.found(BLOCKS)
        assert found >= 0.9 * RUNS
        assert not too_few(found, RUNS, power(0.03), checks=2)
        assert not too_many(found, RUNS, power(0.03), checks=2)

    def test_would_fail_this_with_a_block_less(self) -> None:
        found = self.found(BLOCKS - 1)
        assert found < 0.9 * RUNS
        assert too_few(found, RUNS, power(0.03), checks=2)

    def test_is_never_called_a_speed_up_or_the_same(self) -> None:
        assert count([verdict_of(ratio) for ratio in speedups(rates(0.03))], "FASTER", "SAME", "INVALID") == 0

    @staticmethod
    def found(blocks: int) -> int:
        return count([verdict_of(ratio) for ratio in speedups(rates(0.03), blocks)], "SLOWER")


class TestTheWholeProgram:
    @pytest.mark.parametrize("runs", WRITTEN_RUNS)
    @pytest.mark.parametrize("slower", [0.0, 0.03])
    def test_writes_the_comparisons_that_are_counted_above(self, slower: float, runs: int, tmp_path: Path) -> None:
        config = load_config(script(slower), sources())
        for seed, ratio in enumerate(speedups(rates(slower)[:runs])):
            config.model.seed = seed
            require_written(config_written(config, tmp_path), ratio)

    @pytest.mark.parametrize("slower", [0.0, 0.03])
    def test_does_so_from_the_command_line_on(self, slower: float, run_kvbench: Run, tmp_path: Path) -> None:
        for seed, ratio in enumerate(speedups(rates(slower)[:TYPED_RUNS])):
            folder = tmp_path / f"seed{seed}"
            code, out, _ = run_kvbench(*script(slower), f"model.seed={seed}", f"results_dir={folder}")
            comparison = written(folder)
            assert code == 0
            assert comparison["verdict"] in out
            require_written(comparison, ratio)


def alike() -> list[Speedup]:
    return speedups(rates(0.0))


def config_written(config: Config, folder: Path) -> dict[str, Any]:
    """The comparison in the record of one run of `config`."""
    ended = measure_point(config, InlineRunner(), folder, Display(Console(quiet=True)))
    assert ended.error is None
    return written(ended.folder.path)


def written(folder: Path) -> dict[str, Any]:
    """The comparison in the one record below a folder."""
    (path,) = folder.rglob("run.json")
    comparison: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["comparison"]
    return comparison


def require_written(comparison: dict[str, Any], ratio: Speedup) -> None:
    assert comparison["verdict"] == verdict_of(ratio)
    told, expected = comparison["speedup"], ratio.model_dump()
    for figure in ("value", "ci_low", "ci_high"):
        assert told.pop(figure) == pytest.approx(expected.pop(figure), rel=1e-6)
    assert told == expected
