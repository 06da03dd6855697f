"""A run folder holds what the contract says, each file readable by itself, and no null is left without its reason."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvbench.config.compose import load_config, sources
from kvbench.display import Display
from kvbench.point import measure_point
from kvbench.records.run_record import RunRecord
from kvbench.records.store import BLOCKS, CONFIG, LOG, PROMPTS, RECORD, REPORT, STEPS, StoredRun, find_runs, read_steps
from kvbench.running.supervisor import InlineRunner

Run = Callable[..., tuple[int, str, str]]

INLINE = ("model=scripted", "launch=inline", "measure.warmup=0", "workload.new_tokens=4")
NO_REPORT = (*INLINE, "report=false")


def the_run(results: Path) -> StoredRun:
    (run,) = find_runs([results]).runs
    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class TestTheFolder:
    @pytest.mark.parametrize("launch", ["inline", "worker"])
    def test_holds_exactly_the_files_of_the_contract(self, run_kvbench: Run, tmp_path: Path, launch: str) -> None:
        assert 0 == run_kvbench(*INLINE, f"launch={launch}")[0]
        folder = the_run(tmp_path / "results").folder
        assert {CONFIG, PROMPTS, BLOCKS, RECORD, STEPS, REPORT, LOG} == {path.name for path in folder.iterdir()}

    def test_lies_under_results_dir_and_name_and_the_run_s_id(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*NO_REPORT, "results_dir=deep/down", "name=mine")
        run = the_run(tmp_path)
        assert tmp_path / "deep" / "down" / "mine" / run.record.run_id == run.folder

    @pytest.mark.parametrize(
        ("option", "missing"), [("report=false", REPORT), ("measure.step_lane=false", STEPS)], ids=["report", "steps"]
    )
    def test_lacks_only_what_was_switched_off(
        self, run_kvbench: Run, tmp_path: Path, option: str, missing: str
    ) -> None:
        run_kvbench(*INLINE, option)
        names = {path.name for path in the_run(tmp_path / "results").folder.iterdir()}
        assert {CONFIG, PROMPTS, BLOCKS, RECORD, STEPS, REPORT, LOG} - {missing} == names

    def test_keeps_a_log_of_what_was_printed(self, run_kvbench: Run, tmp_path: Path) -> None:
        _, out, _ = run_kvbench(*NO_REPORT)
        log = (the_run(tmp_path / "results").folder / LOG).read_text(encoding="utf-8")
        assert log.startswith("kvbench: scripted, nocache vs cached")
        assert "mode_proof" in log
        assert "\x1b" not in log + out

    def test_of_a_second_run_is_another(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*NO_REPORT)
        run_kvbench(*NO_REPORT)
        assert 2 == len(find_runs([tmp_path / "results"]).runs)


CONFIGURATIONS = [
    (),
    ("mode=cached", "measure.warmup=2", "workload.stop=[100,101]", "name=mine"),
    ("arms=[{mode: cached, attention: math},{mode: generate}]", "workload.prompt_tokens=9", "measure=precise"),
    ("workload.prompts=p.txt", "workload.batch_size=2", "check.agreement=false", "model.noise=0.02", "model.seed=3"),
]


class TestTheConfiguration:
    @pytest.mark.parametrize("overrides", CONFIGURATIONS, ids=["default", "one arm", "arms", "prompts"])
    def test_run_again_is_equal_and_compares_with_the_first(
        self, run_kvbench: Run, tmp_path: Path, overrides: tuple[str, ...]
    ) -> None:
        (tmp_path / "p.txt").write_text("one\ntwo: $x {y}\nthree\n")
        assert 0 == run_kvbench(*NO_REPORT, "measure.blocks=5", *overrides)[0]
        first = the_run(tmp_path / "results")
        # A file to read is named again: the folder could be somebody else's.
        read = [each for each in overrides if each.startswith("workload.prompts=")]
        assert 0 == run_kvbench("--config-path", str(first.folder), "results_dir=again", *read)[0]
        again = the_run(tmp_path / "again").record
        assert {**first.record.config, "results_dir": "again"} == again.config
        assert first.record.keys == again.keys
        assert first.record.arms == again.arms

    def test_is_the_one_in_the_record(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*NO_REPORT, "model.noise=0.07")
        run = the_run(tmp_path / "results")
        config = load_config([], sources(config_path=str(run.folder)))
        assert 0.07 == run.record.config["model"]["noise"] == config.model.noise

    @pytest.mark.parametrize(
        "change",
        ["workload.new_tokens=5", "workload.batch_size=2", "mode=cached", "mode=interrupted", "check.agreement=none"],
    )
    def test_that_differs_has_another_resume_key(self, run_kvbench: Run, tmp_path: Path, change: str) -> None:
        run_kvbench(*NO_REPORT)
        run_kvbench(*NO_REPORT, change, "results_dir=other")
        first, other = the_run(tmp_path / "results").record.keys, the_run(tmp_path / "other").record.keys
        assert first.resume_key != other.resume_key
        assert (change == "check.agreement=none") == (first.compare_key == other.compare_key)


class TestThePrompts:
    def test_are_kept_in_file_order_with_their_ids(self, run_kvbench: Run, tmp_path: Path) -> None:
        texts = ["first", "第二 ✓", 'a "quoted" line\twith a tab']
        (tmp_path / "p.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        run_kvbench(*NO_REPORT, "workload.prompts=p.txt", "workload.batch_size=2")
        run = the_run(tmp_path / "results")
        kept = lines(run.folder / PROMPTS)
        assert texts == [prompt["text"] for prompt in kept]
        assert [list(text.encode()) for text in texts] == [prompt["token_ids"] for prompt in kept]
        assert run.record.workload is not None
        assert tuple(len(text.encode()) for text in texts) == run.record.workload.prompt_tokens
        digest = hashlib.sha256(json.dumps([prompt["token_ids"] for prompt in kept]).encode()).hexdigest()
        assert digest == run.record.workload.prompt_sha256

    def test_of_a_length_have_exactly_that_many_ids(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*NO_REPORT, "workload.prompt_tokens=5000", "workload.batch_size=3")
        kept = lines(the_run(tmp_path / "results").folder / PROMPTS)
        assert [5000] * 3 == [len(prompt["token_ids"]) for prompt in kept]


class TestTheBlocks:
    def test_are_one_line_each_with_every_visit(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_text("a\nbb\nccc\n")
        run_kvbench(*NO_REPORT, "workload.prompts=p.txt", "workload.batch_size=2", "measure.blocks=6")
        blocks = lines(the_run(tmp_path / "results").folder / BLOCKS)
        assert list(range(6)) == [block["index"] for block in blocks]
        # two lanes, two arms, two batches: one of two prompts and one of one
        assert {8} == {len(block["visits"]) for block in blocks}
        assert {(2, 8), (1, 4)} == {
            (visit["sequences"], visit["new_tokens"]) for block in blocks for visit in block["visits"]
        }

    def test_visit_the_arms_in_both_orders(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*NO_REPORT, "measure.blocks=12")
        orders = {tuple(block["order"]) for block in lines(the_run(tmp_path / "results").folder / BLOCKS)}
        assert {(0, 1), (1, 0)} == orders

    def test_fill_the_table_of_steps(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_text("a\nbb\nccc\n")
        run_kvbench(*NO_REPORT, "workload.prompts=p.txt", "workload.batch_size=2", "measure.blocks=6")
        table = read_steps(the_run(tmp_path / "results").folder)
        assert table is not None
        timed = ["run_id", "block", "arm", "batch", "prompt", "step", "context_length", "latency_s"]
        assert [*timed, "lane"] == table.column_names
        assert {"steps"} == set(table["lane"].to_pylist())
        assert 6 * 2 * 2 * 3 == table.num_rows
        # the second batch begins with the third prompt, of 3 tokens
        assert {(0, 3), (2, 4)} == {
            (row["prompt"], row["context_length"]) for row in table.to_pylist() if row["step"] == 1
        }


def interrupted(tmp_path: Path, *overrides: str, after: type) -> RunRecord:
    """The record of a run during which Ctrl-C came with the first message of a kind."""

    class Impatient(InlineRunner):
        def measure(self, plan: Any, log: Path, listen: Any) -> None:
            def hear(message: Any) -> None:
                listen(message)
                if isinstance(message, after):
                    raise KeyboardInterrupt

            super().measure(plan, log, hear)

    config = replace(load_config([*NO_REPORT, *overrides], sources()), results_dir=str(tmp_path))
    return measure_point(config, Impatient(), tmp_path, Display()).record


ENDINGS = {
    "ok": (),
    "one arm": ("mode=cached",),
    "no step lane": ("measure.step_lane=false",),
    "no agreement": ("check.agreement=none",),
    "few blocks": ("measure.blocks=1",),
    "ended at the first token": ("workload.prompt_tokens=5", f"workload.stop=[{ord('a') + 5}]"),
    "failed at once": ("model.fail_at_step=1",),
    "failed in the untimed pass": ("model.fail_at_step=20", "workload.prompt_tokens=5"),
    "failed in the blocks": ("model.fail_at_step=40", "workload.prompt_tokens=5", "mode=both"),
    "out of memory": ("model.fail_at_step=40", "model.fail_with=oom", "mode=cached"),
    "crashed": ("model.fail_at_step=40", "model.fail_with=crash", "launch=worker"),
}


def nulls(value: Any, pointer: str = "") -> Iterator[str]:
    """JSON pointers of the nulls below a value."""
    if value is None:
        yield pointer
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from nulls(item, f"{pointer}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from nulls(item, f"{pointer}/{index}")


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)


def reason_of(pointer: str, reasons: dict[str, str]) -> str | None:
    """The reason at the pointer or at the nearest part that holds it."""
    while pointer:
        if pointer in reasons:
            return reasons[pointer]
        pointer = pointer.rpartition("/")[0]
    return None


def hold_to_the_contract(record: dict[str, Any], validator: Any) -> None:
    """Fails unless the record is valid by its schema, finite, and explains each of its nulls."""
    validator.validate(record)
    assert all(math.isfinite(number) for number in numbers(record))
    reasons = record["null_reasons"]
    parts = {key: value for key, value in record.items() if key not in ("config", "null_reasons")}
    assert [] == [pointer for pointer in nulls(parts) if not reason_of(pointer, reasons)]
    assert [] == [pointer for pointer, reason in reasons.items() if reason == "not known"]


class TestTheRecord:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_explains_every_null(
        self, run_kvbench: Run, tmp_path: Path, record_schema_validator: Any, ending: str
    ) -> None:
        run_kvbench(*NO_REPORT, *ENDINGS[ending])
        (path,) = (tmp_path / "results").rglob(RECORD)
        hold_to_the_contract(json.loads(path.read_text()), record_schema_validator)

    def test_of_an_interrupted_run_does_too(self, tmp_path: Path, record_schema_validator: Any) -> None:
        from kvbench.records.samples import Prepared
        from kvbench.records.timings import Block, ColdVisit
        from kvbench.records.untimed import UntimedPass
        from kvbench.running.job import Progress

        for after in (Progress, Prepared, ColdVisit, UntimedPass, Block):
            record = interrupted(tmp_path / after.__name__, after=after)
            assert "interrupted" == record.status
            hold_to_the_contract(json.loads(record.model_dump_json()), record_schema_validator)

    def test_of_a_refused_point_does_too(self, run_kvbench: Run, tmp_path: Path, record_schema_validator: Any) -> None:
        run_kvbench("-m", *NO_REPORT, "workload.new_tokens=4,0")
        records = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob(RECORD)]
        assert ["ok", "refused"] == sorted(record["status"] for record in records)
        for record in records:
            hold_to_the_contract(record, record_schema_validator)

    def test_gives_reasons_only_for_nulls(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*NO_REPORT)
        (path,) = (tmp_path / "results").rglob(RECORD)
        record = json.loads(path.read_text())
        pointers = set(nulls({key: value for key, value in record.items() if key != "config"}))
        explained = set(record["null_reasons"])
        assert set() == {
            each for each in explained if not any(at == each or at.startswith(f"{each}/") for at in pointers)
        }

    def test_does_not_say_that_a_run_of_two_arms_had_one(self, tmp_path: Path) -> None:
        from kvbench.running.job import Progress

        record = interrupted(tmp_path, after=Progress)
        assert record.comparison is None
        assert "one arm" not in record.null_reasons["/comparison"]

    def test_does_not_ask_for_blocks_that_were_there(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*NO_REPORT, *ENDINGS["ended at the first token"])
        record = the_run(tmp_path / "results").record
        assert 8 == len(lines(the_run(tmp_path / "results").folder / BLOCKS))
        assert record.arms[0].itl_s.value is None
        assert "6 blocks" not in record.null_reasons["/arms/0/itl_s/ci_low"]
        assert "2 blocks" not in record.null_reasons["/comparison/speedup/ci_low"]

    def test_counts_the_steps_that_it_checked(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*NO_REPORT, "workload.prompt_tokens=5", "measure.blocks=6")
        # 4 passes each in the untimed run and in two lanes of six blocks
        assert [(52, 0), (52, 0)] == [
            (arm.proof.steps_checked, arm.proof.violations) for arm in the_run(tmp_path / "results").record.arms
        ]
