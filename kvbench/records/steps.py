"""The per-step table: one row per decode step of the per-token lane, and one per new token of a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from kvbench.measuring.samples import Block, Prepared, TracedPass

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]


def step_table(blocks: Sequence[Block], prepared: Prepared, traced: Sequence[TracedPass] = ()) -> pyarrow.Table:
    """One table, its rows told apart by `lane`.

    Lane "steps": block, arm, batch, prompt (index of the batch's first prompt), step (1 is the first after the
    prefill), context_length (tokens visible to the step, of the batch's longest sequence), latency_s.

    Lane "trace", with the last six columns only where there is a trace: arm, batch, prompt (the sequence's own), step
    (0 is the prefill's token), context_length (tokens visible to it, of its own sequence), token_id, token_text (pieces
    that, joined, are the text), probability, rank, entropy_nats, alternatives; block and latency_s are null.
    """
    import pyarrow

    schema = _schema()
    if not traced:
        schema = pyarrow.schema(list(schema)[: schema.get_field_index("lane") + 1])
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for row in chain(_timed(blocks, prepared), _traced(traced, prepared)):
        for name, column in columns.items():
            column.append(row.get(name))
    return pyarrow.table(columns, schema=schema)


def lane_rows(table: pyarrow.Table, lane: str) -> pyarrow.Table:
    """The rows of one lane. A table of before there were lanes holds that of the steps alone."""
    import pyarrow.compute

    if "lane" not in table.column_names:
        return table if lane == "steps" else table.slice(0, 0)
    return table.filter(pyarrow.compute.equal(table["lane"], lane))


def _schema() -> pyarrow.Schema:
    import pyarrow

    alternative = [("token_id", pyarrow.int32()), ("token_text", pyarrow.string()), ("probability", pyarrow.float64())]
    return pyarrow.schema(
        [
            *((name, pyarrow.int32()) for name in ("block", "arm", "batch", "prompt", "step", "context_length")),
            ("latency_s", pyarrow.float64()),
            ("lane", pyarrow.string()),
            ("token_id", pyarrow.int32()),
            ("token_text", pyarrow.string()),
            ("probability", pyarrow.float64()),
            ("rank", pyarrow.int32()),
            ("entropy_nats", pyarrow.float64()),
            ("alternatives", pyarrow.list_(pyarrow.struct(alternative))),
        ]
    )


def _timed(blocks: Sequence[Block], prepared: Prepared) -> Iterator[Row]:
    for block in blocks:
        for visit in block.visits:
            prompt = max(len(prepared.prompts[index]["token_ids"]) for index in prepared.batches[visit.batch])
            for step, latency_s in enumerate(visit.step_s or (), start=1):
                yield {
                    "block": block.index,
                    "arm": visit.arm,
                    "batch": visit.batch,
                    "prompt": prepared.batches[visit.batch][0],
                    "step": step,
                    "context_length": prepared.interruptions.context(prompt, step),
                    "latency_s": latency_s,
                    "lane": "steps",
                }


def _traced(traced: Sequence[TracedPass], prepared: Prepared) -> Iterator[Row]:
    batch_of = {prompt: number for number, members in enumerate(prepared.batches) for prompt in members}
    for each in traced:
        for prompt, sequence in enumerate(each.sequences):
            length = len(prepared.prompts[prompt]["token_ids"])
            for step, token in enumerate(sequence):
                yield {
                    "arm": each.arm,
                    "batch": batch_of[prompt],
                    "prompt": prompt,
                    "step": step,
                    "context_length": prepared.interruptions.context(length, step),
                    "lane": "trace",
                    "token_id": token.token_id,
                    "token_text": token.text,
                    "probability": token.probability,
                    "rank": token.rank,
                    "entropy_nats": token.entropy_nats,
                    "alternatives": token.alternatives,
                }
