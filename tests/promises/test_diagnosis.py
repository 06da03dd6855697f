"""A comparison ends in sentences that say why it came out as it did, whatever the script behind it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from translations import left_in_english

from kvbench.records.ceilings import Ceilings, MatrixRate, ReadRate, fingerprint, keep_ceilings
from kvbench.records.store import find_runs
from kvbench.running.scripted import environment_of_script

Run = Callable[..., tuple[int, str, str]]

CUDNN = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128"
# Gemma-2B's shape on an H200 as it was measured: 12 ms of launches whatever the arithmetic, 62 ms a new length.
H200 = (
    "model.launch_s=0.012",
    "model.cached_step_s=0.002",
    "model.nocache_step_s=0.002",
    "model.nocache_per_token_s=8e-6",
    "model.unseen_length_s=0.062",
    "workload.prompt_tokens=100",
    "workload.new_tokens=8",
)
LAUNCH = (
    "Steps of both modes take 12.0 ms, and the device works 2.83 ms and 2.00 ms of them; the rest goes into launching"
    " kernels, which below about"
)
REMEDY = "Fewer or larger launches would help: a compiled or captured step, or a larger batch."


@pytest.fixture
def diagnosed(scripted: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, str]]:
    """Runs the program; the sentences of a comparison by their codes, in order."""

    def run(*overrides: str, code: int = 0, comparison: int = 0) -> dict[str, str]:
        data = scripted(*overrides, code=code)
        assert data["comparison"] == data["comparisons"][0]
        told = data["comparisons"][comparison]["diagnosis"]
        assert len(told) == len({each["code"] for each in told}) <= 5
        assert [] == left_in_english((f"diagnosis.{each['code']}", each["text"]) for each in told)
        return {each["code"]: each["text"] for each in told}

    return run


Diagnosed = Callable[..., dict[str, str]]


@pytest.fixture
def ceilings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ceilings:
    """4.41 TB/s and 700 TFLOP/s, kept for the scripted machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = Ceilings(
        fingerprint=fingerprint(environment_of_script()),
        measured_at="2026-01-01T00:00:00+00:00",
        device_name="scripted",
        read=(ReadRate(set_bytes=2**30, bytes_per_s=4.41e12),),
        matrix=(MatrixRate(dtype="float16", rows=4096, width=4096, flops_per_s=7e14),),
        launch_s=4e-6,
    )
    keep_ceilings(found)
    return found


class TestALaunchBoundPair:
    def test_says_below_which_context_a_cache_has_nothing_to_save(self, diagnosed: Diagnosed) -> None:
        said = diagnosed(*H200)
        # 2.832 ms at 104 tokens, in proportion: 12 ms at 441 tokens.
        assert f"{LAUNCH} 440 tokens of context hides what the cache saves. {REMEDY}" == said["launch"]

    def test_knows_that_reading_the_weights_takes_as_long_for_few_tokens(
        self, diagnosed: Diagnosed, ceilings: Ceilings
    ) -> None:
        said = diagnosed(*H200, "model.nocache_per_token_s=0", "model.parameters=2506172416")
        # Reading takes 1.137 ms, computing 7.16 µs a token: 159 tokens are free, and six times as many take 12 ms.
        assert (
            "Steps of both modes take 12.0 ms, and the device works 2.00 ms of them; the rest goes into launching"
            f" kernels, which below about 950 tokens of context hides what the cache saves. {REMEDY}"
        ) == said["launch"]

    def test_of_which_the_cached_step_alone_waits_names_it(self, diagnosed: Diagnosed) -> None:
        said = diagnosed(*H200, "workload.prompt_tokens=2000")
        assert (
            "A step of cached takes 12.0 ms, and the device works 2.00 ms of it; the rest goes into launching kernels. "
            + REMEDY
        ) == said["launch"]


class TestARunOverSeveralLengths:
    def test_says_where_the_cache_begins_to_win_and_how_steps_grow(self, diagnosed: Diagnosed) -> None:
        said = diagnosed(
            *("model.cached_step_s=0.012", "model.nocache_step_s=0.002", "model.nocache_per_token_s=1e-5"),
            *("workload.new_tokens=8", "scaling.lengths=[200,600,1000,1800]", "scaling.decode_tokens=0"),
        )
        assert said["break_even"].startswith(
            "Break-even: from about 1,000 tokens on a step of cached is faster than one of nocache"
        )
        # Steps at 204 and 1,804 tokens on average: 4.04 and 20.04 ms.
        assert (
            "From 204 to 1,804 tokens a step of nocache becomes 4.96 times as long, one of cached 1.00 times."
        ) == said["growth"]


class TestAFirstVisit:
    def test_is_cudnn_s_where_the_kernel_says_so(self, diagnosed: Diagnosed) -> None:
        said = diagnosed(*H200, f"model.kernel={CUDNN}")
        assert (
            "At a length not met before, 62.0 of the 74.0 ms that a step of either takes are cuDNN building a plan"
            " for it; a decode meets a new length at every step. attention=math avoids it:"
            " 12.0 ms the first time."
        ) == said["first_visit"]

    @pytest.mark.parametrize("kernel", [(), ("model.kernel=cudnn_convolution",), ("model.kernel=flash_fwd_kernel",)])
    def test_is_nobody_s_by_name_where_no_kernel_says_so(self, diagnosed: Diagnosed, kernel: tuple[str, ...]) -> None:
        assert "are its attention building something for it" in diagnosed(*H200, *kernel)["first_visit"]

    def test_that_costs_nothing_is_not_mentioned(self, diagnosed: Diagnosed) -> None:
        assert "first_visit" not in diagnosed(*H200, "model.unseen_length_s=0")


class TestCosts:
    def test_are_the_cache_s_bytes_and_the_energy(self, diagnosed: Diagnosed) -> None:
        said = diagnosed(
            *("model.nocache_step_s=0.012", "model.cached_step_s=0.003", "model.sensors=steady"),
            *("workload.prompt_tokens=100", "workload.new_tokens=8"),
        )
        assert ("The cache holds 428 B of one sequence at the end of the run, 4.00 B a token.") == said["cache_bytes"]
        assert said["energy"].startswith("The cache saves ")

    def test_of_a_static_cache_are_those_of_its_length_and_not_of_what_it_holds(self, diagnosed: Diagnosed) -> None:
        said = diagnosed("cache=static", "workload.prompt_tokens=100", "workload.new_tokens=8")
        assert ("The cache is allocated whole, 520 B for one sequence, 4.00 B a token.") == said["cache_bytes"]


class TestFloors:
    def test_that_are_not_known_name_the_command_for_the_run_s_own_threads(self, diagnosed: Diagnosed) -> None:
        said = diagnosed("model.cached_step_s=0.004", "model.parameters=1000000", "threads=3", "device=cpu")
        assert "`kvbench doctor --ceilings --threads 3 --device cpu` measures that once." in said["no_ceilings"]

    def test_tell_how_long_a_cached_step_must_read(self, diagnosed: Diagnosed, ceilings: Ceilings) -> None:
        said = diagnosed(*H200, "model.launch_s=0.0125", "model.parameters=2506172416")
        # 5.0 GB at 4.41 TB/s.
        assert (
            "A step of cached reads 5.01 GB of weights and cache: at this machine's 4.41 TB/s that is 1.14 ms; it takes"
            " 12.5 ms (MBU 9.1 %)."
        ) == said["reading"]
        assert "no_ceilings" not in said

    def test_that_are_near_say_what_is_left(self, diagnosed: Diagnosed, ceilings: Ceilings) -> None:
        said = diagnosed(
            *("model.cached_step_s=0.0015", "model.nocache_step_s=0.02", "model.parameters=2506172416"),
            *("workload.prompt_tokens=2000", "workload.new_tokens=8"),
        )
        assert said["reading"].endswith(
            "it takes 1.50 ms (MBU 76 %), near what the machine allows: only fewer bytes or more sequences for each"
            " reading would raise it."
        )
        assert (
            "A step of nocache needs 10.0 TFLOP, one of cached 5.01 GFLOP: 2,004 times the arithmetic for 13 times"
            " the time; nocache is bound by computing, at 72 % of this machine's rate (MFU)."
        ) == said["arithmetic"]

    def test_that_kernels_still_come_nearer_to_are_not_called_near(
        self, diagnosed: Diagnosed, ceilings: Ceilings
    ) -> None:
        said = diagnosed(
            *("model.cached_step_s=0.0018", "model.nocache_step_s=0.02", "model.parameters=2506172416"),
            *("workload.prompt_tokens=2000", "workload.new_tokens=8"),
        )
        assert said["reading"].endswith("it takes 1.80 ms (MBU 63 %).")

    def test_that_are_not_known_are_not_guessed(self, diagnosed: Diagnosed) -> None:
        said = diagnosed("model.parameters=1000000", "workload.prompt_tokens=100", "workload.new_tokens=8")
        assert "reading" not in said
        assert (
            "How far a step is from what this machine could do is not known: `kvbench doctor --ceilings` measures that"
            " once."
        ) == list(said.values())[-1]


class TestHabits:
    def test_are_named_with_what_they_take(self, diagnosed: Diagnosed) -> None:
        said = diagnosed("arms=[{mode: nocache},{mode: nocache, habit: all_logits}]", "model.all_logits_s=0.0025")
        assert {
            "habit": "The habit all_logits (logits of every position, of which one is used) takes 20 % of a step"
            " [20 %, 20 %]."
        } == said

    def test_that_cost_nothing_are_said_to(self, diagnosed: Diagnosed) -> None:
        said = diagnosed("arms=[{mode: nocache},{mode: nocache, habit: python_list}]")
        assert {
            "habit": "The habit python_list (the input tensor is rebuilt from a Python list of ids) takes nothing that"
            " shows: the whole interval lies within ±1 %."
        } == said

    def test_overcharge_a_naive_loop_by_a_measured_share(self, diagnosed: Diagnosed) -> None:
        arms = "arms=[{mode: nocache_naive},{mode: nocache},{mode: cached}]"
        said = diagnosed(arms, "model.all_logits_s=0.0062", comparison=1)
        assert (
            "The nocache_naive loop computes logits for every position and builds a cache that it drops: 38 % of its"
            " time."
        ) == said["all_logits"]


class TestAnInvalidComparison:
    def test_gets_no_cause_for_a_speed_up(self, diagnosed: Diagnosed) -> None:
        assert {
            "few_blocks": "An interval over 3 blocks does not cover what it says: measure.blocks=8 would."
        } == diagnosed(*H200, "measure.blocks=3", code=3)

    def test_says_that_the_device_slowed_itself_down(self, diagnosed: Diagnosed) -> None:
        said = diagnosed(*H200, "model.sensors=throttled", code=3)
        assert ["throttled"] == list(said)
        assert said["throttled"].startswith("The device slowed itself down in ")


class TestOtherComparisons:
    def test_of_interrupted_arms_tell_what_rebuilding_takes(self, diagnosed: Diagnosed) -> None:
        said = diagnosed("mode=interrupted", "workload.prompt_tokens=100", "workload.new_tokens=16", comparison=1)
        assert said["rebuilding"].startswith("Rebuilding the lost cache at 112 tokens takes ")

    def test_of_an_arm_with_itself_have_nothing_to_explain(self, diagnosed: Diagnosed) -> None:
        assert {} == diagnosed("arms=[{mode: cached},{mode: cached}]")


def test_the_terminal_and_show_print_them_below_the_statement(run_kvbench: Run, tmp_path: Path) -> None:
    _, printed, _ = run_kvbench("model=scripted", "launch=inline", "report=false", "stream.interval=0", *H200)
    (found,) = find_runs([tmp_path / "results"]).runs
    _, shown, _ = run_kvbench("show", str(found.folder))
    for text in (printed, shown):
        flat = " ".join(text.split())
        assert f"same tokens). • {LAUNCH}" in flat
        assert flat.index("• At a length not met before, 62.0 of the 74.0 ms") < flat.index("VALID")
