"""What a run says of arms that differ in their engine, their bucket or their cache's length, to the digit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pointers import unresolved_evidence

from kvbench.records.run_record import RunRecord
from kvbench.records.store import find_runs

Run = Callable[..., tuple[int, str, str]]

FOUR = (
    "arms=[{mode: nocache},{mode: cached},{mode: nocache, engine: compiled, bucket: 32},"
    "{mode: cached, cache: static, engine: compiled}]"
)


class Measured:
    """Runs of the scripted model, with what they printed."""

    def __init__(self, run_kvbench: Run, folder: Path) -> None:
        self._run = run_kvbench
        self.folder = folder
        self.printed = ""

    def __call__(self, *overrides: str) -> RunRecord:
        options = ("model=scripted", "launch=inline", "report=false", "stream.interval=0")
        code, self.printed, _ = self._run(*options, *overrides)
        assert 0 == code
        return find_runs([self.folder]).runs[-1].record


@pytest.fixture
def measured(run_kvbench: Run, tmp_path: Path) -> Measured:
    return Measured(run_kvbench, tmp_path / "results")


def flat(text: str) -> str:
    return " ".join(text.split())


class TestPadding:
    def test_is_told_beside_the_arithmetic_that_a_step_needs(self, measured: Measured) -> None:
        record = measured(
            *("arms=[{mode: nocache, bucket: 16},{mode: cached}]", *sized(prompt=8, new=3)),
            *("model.nocache_per_token_s=0.001", "model.parameters=1000000000"),
        )
        said = {each.code: each.text for each in record.comparisons[0].diagnosis}
        assert ", without the 68 % that padding adds to nocache (bucket 16)" in said["arithmetic"]
        assert "/arms/0/padding_share" in next(
            each.evidence for each in record.comparisons[0].diagnosis if each.code == "arithmetic"
        )

    def test_is_what_the_steps_submitted_beyond_their_context(self, measured: Measured) -> None:
        record = measured("arms=[{mode: nocache},{mode: nocache, bucket: 8},{mode: cached}]", *sized(prompt=10, new=5))
        # Contexts of 11, 12, 13 and 14 tokens in buckets of 16: 64 submitted for 50.
        assert [0.0, 64 / 50 - 1, None] == [arm.padding_share for arm in record.arms]
        assert record.null_reasons["/arms/2/padding_share"].startswith("an arm that keeps a past submits nothing but")
        assert "padding to buckets 0 % 28 % —" in flat(measured.printed).replace("0.00 %", "0 %").replace("28.0", "28")

    def test_is_not_shown_where_nobody_asked_for_buckets(self, measured: Measured) -> None:
        measured(*sized(prompt=10, new=5))
        assert "padding" not in measured.printed

    def test_costs_what_the_padded_tokens_cost(self, measured: Measured) -> None:
        record = measured(
            *("arms=[{mode: nocache},{mode: nocache, bucket: 16}]", *sized(prompt=8, new=3)),
            *("model.nocache_step_s=0.001", "model.nocache_per_token_s=0.001"),
        )
        # Contexts of 9 and 10 tokens, or twice 16.
        assert [0.0105, 0.017] == pytest.approx([arm.itl_s.value for arm in record.arms])
        said = {each.code: each.text for each in record.comparisons[0].diagnosis}
        assert (
            "Padding to multiples of 16 tokens adds 68 % to what a step of nocache (bucket 16) submits: a smaller"
            " bucket adds less and prepares more shapes."
        ) == said["padding"]
        assert [] == unresolved_evidence(record.model_dump(mode="json"))


class TestPreparing:
    def test_is_the_first_visit_s_and_paid_once(self, measured: Measured) -> None:
        record = measured(
            "arms=[{mode: cached},{mode: cached, cache: static, engine: compiled}]",
            *("model.prepare_s=12.5", "model.cached_step_s=0.001", *sized(prompt=10, new=5)),
        )
        assert [None, 12.5] == [arm.cold.compile_s for arm in record.arms]
        assert [0.001, (12.5 + 4 * 0.001) / 4] == pytest.approx([arm.cold.itl_s for arm in record.arms])
        assert [0.001, 0.001] == pytest.approx([arm.itl_s.value for arm in record.arms])
        assert "eager execution compiles nothing and captures nothing" == record.null_reasons["/arms/0/cold/compile_s"]
        assert record.null_reasons["/arms/1/cold/probes"].startswith("the engine compiles or captures every shape")
        assert (
            "cached (static, compiled): compiling took 12.5 s, once for each shape, during the first generation."
            in flat(measured.printed)
        )

    def test_is_told_by_the_diagnosis_and_not_taken_for_a_plan_of_cudnn(self, measured: Measured) -> None:
        record = measured(
            "arms=[{mode: nocache},{mode: nocache, engine: compiled}]",
            *("model.prepare_s=12.5", "model.unseen_length_s=0.06", *sized(prompt=100, new=8)),
            "model.kernel=cudnn_generated_fort_native_sdpa",
        )
        said = {each.code: each.text for each in record.comparisons[0].diagnosis}
        assert (
            "Compiling took 12.5 s of the first visit of nocache (compiled), once for each shape." == said["preparing"]
        )
        assert "that a step of nocache (eager) takes are" in said["first_visit"]
        assert [] == unresolved_evidence(record.model_dump(mode="json"))


class TestArmsThatDifferInOnePart:
    TWO = "arms=[{mode: nocache, bucket: 16},{mode: nocache, bucket: 32}]"

    def test_have_names_of_their_own_wherever_they_are_told(self, measured: Measured, run_kvbench: Run) -> None:
        record = measured(self.TWO, *sized(prompt=100, new=8))
        text = flat(measured.printed)
        assert "nocache (bucket 16) vs nocache (bucket 32)" in text
        assert "nocache (bucket 32) decodes" in text
        assert "agreement: nocache (bucket 32) " in text
        _, exported, _ = run_kvbench("export", str(measured.folder), "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(exported)))
        assert [("nocache (bucket 16)", "16"), ("nocache (bucket 32)", "32")] == [
            (row["arm"], row["bucket"]) for row in rows
        ]
        _, exported, _ = run_kvbench("export", str(measured.folder), "--format", "pytest-benchmark")
        names = [each["name"].partition("] ")[2] for each in json.loads(exported)["benchmarks"]]
        assert ["nocache (bucket 16)", "nocache (bucket 32)"] == names
        assert record.arms[0] != record.arms[1]

    @pytest.mark.parametrize(
        ("arm", "name"),
        [
            ("{mode: nocache, engine: compiled}", "nocache (compiled)"),
            ("{mode: nocache, engine: compiled, bucket: 64}", "nocache (compiled)"),
            ("{mode: nocache, engine: compiled, bucket: 1}", "nocache (compiled, bucket 1)"),
            (
                "{mode: cached, engine: compiled, compile_mode: default, cache_tokens: 512}",
                "cached (static, compiled, compile_mode default, cache_tokens 512)",
            ),
            ("{mode: nocache, habit: python_list, bucket: 16}", "nocache (habit python_list, bucket 16)"),
        ],
    )
    def test_are_named_by_what_is_not_usual(self, measured: Measured, run_kvbench: Run, arm: str, name: str) -> None:
        measured(f"arms=[{arm}]", *sized(prompt=100, new=8))
        _, exported, _ = run_kvbench("export", str(measured.folder), "--format", "csv")
        assert name == next(csv.DictReader(io.StringIO(exported)))["arm"]

    def test_are_no_counterparts_and_the_gate_says_in_what_they_differ(
        self, measured: Measured, run_kvbench: Run
    ) -> None:
        for number in (16, 32):
            measured(f"arms=[{{mode: nocache, bucket: {number}}}]", f"name=b{number}", *sized(prompt=100, new=8))
        code, printed, _ = run_kvbench("compare", str(measured.folder / "b16"), str(measured.folder / "b32"))
        assert 4 == code
        assert "arms (nocache/none/eager/auto/none/32, there nocache/none/eager/auto/none/16)" in flat(printed)


class TestLikeWithLike:
    def test_is_named_where_a_ratio_is_of_the_engine_too(self, measured: Measured) -> None:
        record = measured(
            *(FOUR, *sized(prompt=100, new=8), "model.nocache_step_s=0.001", "model.nocache_per_token_s=1e-4"),
            "model.cached_step_s=0.002",
        )
        told = [next((s for s in each.diagnosis if s.code == "unlike_engines"), None) for each in record.comparisons]
        assert [True, True, False] == [each is None for each in told]
        # Contexts of 101 to 107 tokens: 11.4 ms; all padded to 128: 13.8 ms; a cached step takes 2 ms.
        assert told[2] is not None
        assert (
            "This ratio is of the engine as well as of the cache: nocache (eager) against cached (compiled). Like with"
            " like, cached (static, compiled) decodes 6.90 times as fast as nocache (compiled, bucket 32) and cached"
            " decodes 5.70 times as fast as nocache."
        ) == told[2].text
        assert {"/comparisons/0/speedup/value", "/comparisons/1/speedup/value", "/comparisons/2/speedup/value"} < set(
            told[2].evidence
        )
        assert [] == unresolved_evidence(record.model_dump(mode="json"))

    def test_says_so_where_the_run_has_none(self, measured: Measured) -> None:
        arms = "arms=[{mode: nocache},{mode: cached, cache: static, engine: compiled}]"
        record = measured(arms, *sized(prompt=100, new=8))
        (sentence,) = (each for each in record.comparisons[0].diagnosis if each.code == "unlike_engines")
        assert sentence.text.endswith("no two arms compare like with like.")
        assert [] == unresolved_evidence(record.model_dump(mode="json"))


def sized(*, prompt: int, new: int) -> tuple[str, str]:
    return f"workload.prompt_tokens={prompt}", f"workload.new_tokens={new}"
