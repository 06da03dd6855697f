"""The per-step table tells its lanes apart, and a reader of one lane never meets another."""

from __future__ import annotations

import pyarrow

from kvbench.records.samples import Prepared
from kvbench.records.step_table import lane_rows, step_table
from kvbench.records.timings import Block, Visit
from kvbench.records.untimed import TracedPass, TracedToken

TIMED = ["run_id", "block", "arm", "batch", "prompt", "step", "context_length", "latency_s", "lane"]
RUN = "20260101-000000-0123abcd"
TRACED = ["token_id", "token_text", "probability", "rank", "entropy_nats", "alternatives"]
PREPARED = Prepared(
    model={},
    environment={},
    prompts=tuple({"text": "", "token_ids": [0] * length} for length in (5, 3, 7)),
    batches=((0, 1), (2,)),
    load_s=0.0,
)


def visit(lane: str, batch: int) -> Visit:
    step_s = (0.5, 0.25) if lane == "steps" else None
    return Visit(0, batch, lane, 1.0, 2.0, None, 0.0, 1, 3, 2, step_s, "", 3, 0)


BLOCKS = [
    Block(
        0, (0,), "2026-01-01T00:00:00+00:00", 1.0, tuple(visit(x, b) for x in ("throughput", "steps") for b in (0, 1))
    )
]


def token(number: int, probability: float | None = 0.5) -> TracedToken:
    return TracedToken(number, chr(number), probability, 2, 0.7, ((66, "B", 0.6), (number, chr(number), 0.4)))


TRACES = [TracedPass(1, ((token(65), token(67, None)), (token(68),), (token(69),)))]


class TestWithoutATrace:
    def test_the_table_holds_the_timed_steps_and_their_lane(self) -> None:
        table = step_table(BLOCKS, PREPARED, run_id=RUN)
        assert TIMED == table.column_names
        assert [(0, 1, 6, 0.5), (0, 2, 7, 0.25), (2, 1, 8, 0.5), (2, 2, 9, 0.25)] == [
            (row["prompt"], row["step"], row["context_length"], row["latency_s"]) for row in table.to_pylist()
        ]
        assert {RUN} == set(table["run_id"].to_pylist())
        assert table.equals(lane_rows(table, "steps"))
        assert 0 == lane_rows(table, "trace").num_rows

    def test_a_table_of_before_there_were_lanes_is_that_of_the_steps(self) -> None:
        old = step_table(BLOCKS, PREPARED, run_id=RUN).drop_columns(["lane"])
        assert old.equals(lane_rows(old, "steps"))
        assert 0 == lane_rows(old, "trace").num_rows


class TestWithATrace:
    def test_the_columns_have_their_types(self) -> None:
        schema = step_table(BLOCKS, PREPARED, TRACES, run_id=RUN).schema
        assert [*TIMED, *TRACED] == schema.names
        assert pyarrow.string() == schema.field("lane").type
        assert pyarrow.float64() == schema.field("probability").type
        names = [field.name for field in schema.field("alternatives").type.value_type]
        assert ["token_id", "token_text", "probability"] == names

    def test_the_timed_rows_are_as_without(self) -> None:
        table = step_table(BLOCKS, PREPARED, TRACES, run_id=RUN)
        assert step_table(BLOCKS, PREPARED, run_id=RUN).equals(lane_rows(table, "steps").select(TIMED))

    def test_there_is_a_row_for_each_new_token_of_each_prompt(self) -> None:
        rows = lane_rows(step_table(BLOCKS, PREPARED, TRACES, run_id=RUN), "trace").to_pylist()
        assert [(0, 0, 0, 5, 65), (0, 0, 1, 6, 67), (0, 1, 0, 3, 68), (1, 2, 0, 7, 69)] == [
            (row["batch"], row["prompt"], row["step"], row["context_length"], row["token_id"]) for row in rows
        ]
        assert {(None, None, 1)} == {(row["block"], row["latency_s"], row["arm"]) for row in rows}
        assert [0.5, None] == [row["probability"] for row in rows[:2]]
        assert [
            {"token_id": 66, "token_text": "B", "probability": 0.6},
            {"token_id": 65, "token_text": "A", "probability": 0.4},
        ] == rows[0]["alternatives"]

    def test_a_run_without_a_finished_block_keeps_its_trace(self) -> None:
        assert 4 == step_table((), PREPARED, TRACES, run_id=RUN).num_rows
