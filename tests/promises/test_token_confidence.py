"""`trace.probabilities=true`: refused where it cannot be honest, whole in the run folder where it can."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from kvbench.records.step_table import lane_rows
from kvbench.records.store import REPORT, find_runs, read_steps

Run = Callable[..., tuple[int, str, str]]

TRACE = "trace.probabilities=true"
REFUSALS = [
    (
        ("model=scripted",),
        "trace.probabilities=true: has no effect with model.weights=scripted; choose another model, or remove it",
    ),
    (
        ("measure.step_lane=false",),
        "trace.probabilities=true: not with measure.step_lane=false, the throughput lane is never traced;"
        " set measure.step_lane=true",
    ),
    (("trace.top_k=-1",), "trace.top_k=-1: must be at least 0"),
]


class TestATrace:
    @pytest.mark.parametrize(("overrides", "complaint"), REFUSALS, ids=["scripted", "throughput lane", "top-k"])
    def test_that_cannot_be_is_refused_in_one_line(
        self, run_kvbench: Run, tmp_path: Path, overrides: tuple[str, ...], complaint: str
    ) -> None:
        assert (2, "", f"kvbench: {complaint}\n") == run_kvbench(TRACE, *overrides)
        assert not (tmp_path / "results").exists()

    def test_is_in_the_step_table_the_record_the_report_and_the_exports(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_text("37+48=\nThe cache keeps\n缓存保存\n", encoding="utf-8")
        code, out, err = run_kvbench(
            TRACE,
            "trace.top_k=2",
            "workload.prompts=p.txt",
            "workload.batch_size=2",
            "workload.stop=tokenizer",
            "workload.new_tokens=6",
            "sampling.temperature=0.9",
            "check.agreement=none",
            "measure.blocks=5",
            "measure.warmup=0",
            "launch=inline",
            "threads=1",
        )
        assert code == 0, err
        assert "cost of token" in out
        (run,) = find_runs([tmp_path / "results"]).runs
        table = read_steps(run.folder)
        assert table is not None
        for number, arm in enumerate(run.record.arms):
            rows = [row for row in lane_rows(table, "trace").to_pylist() if row["arm"] == number]
            for prompt, (ids, text) in enumerate(zip(arm.tokens, arm.texts, strict=True)):
                own = [row for row in rows if row["prompt"] == prompt]
                assert list(ids) == [row["token_id"] for row in own]
                assert list(range(len(ids))) == [row["step"] for row in own]
                assert text == "".join(row["token_text"] for row in own)
                assert all(0 < row["probability"] <= 1 and row["rank"] >= 1 for row in own)
                assert {2} == {len(row["alternatives"]) for row in own}
            assert arm.trace_cost is not None
        assert {None} == set(lane_rows(table, "trace")["latency_s"].to_pylist())
        assert "Token confidence" in (run.folder / REPORT).read_text(encoding="utf-8")
        _, exported, _ = run_kvbench("export", str(run.folder), "--format", "csv")
        columns = [row["trace_cost"] for row in csv.DictReader(io.StringIO(exported))]
        assert [str(arm.trace_cost) for arm in run.record.arms] == columns
