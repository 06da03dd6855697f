"""The per-step table: one row per decode step of the per-token lane, and one per new token of a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

from kvbench.records.samples import Prepared
from kvbench.records.timings import Block
from kvbench.records.untimed import TracedPass

if TYPE_CHECKING:
    import pyarrow

NEEDED = ("arm", "step", "context_length", "latency_s")  # of every step that was timed
LONGEST_STEP_S = 1e12
Chunk = dict[str, Any]  # rows of one visit: a list per column, or one value for all of them


def step_table(
    blocks: Sequence[Block], prepared: Prepared, traced: Sequence[TracedPass] = (), *, run_id: str
) -> pyarrow.Table:
    """One table, its rows told apart by `lane`; `run_id` is the same in all of them, so that tables can be joined.

    Lane "steps": block, arm, batch, prompt (index of the batch's first prompt), step (1 is the first after the
    prefill), context_length (tokens visible to the step, of the batch's longest sequence), latency_s. Where passes
    check proposed tokens a step is a pass, and the context holds what it accepted.

    Lane "trace", with the last six columns only where there is a trace: arm, batch, prompt (the sequence's own), step
    (0 is the prefill's token), context_length (tokens visible to it, of its own sequence), token_id, token_text (pieces
    that, joined, are the text), probability, rank, entropy_nats, alternatives; block and latency_s are null.
    """
    import pyarrow

    schema = _schema()
    if not traced:
        schema = pyarrow.schema(list(schema)[: schema.get_field_index("lane") + 1])
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for chunk in chain(_timed(blocks, prepared), _traced(traced, prepared)):
        chunk["run_id"] = run_id
        length = len(chunk["step"])
        for name, column in columns.items():
            values = chunk.get(name)
            column.extend(values if isinstance(values, (list, tuple, range)) else [values] * length)
    return pyarrow.table(columns, schema=schema)


def checked_steps(table: pyarrow.Table) -> pyarrow.Table:
    """A table that was read from a file, with the types of ours. Raises `ValueError` where it is no per-step table."""
    import pyarrow
    import pyarrow.compute

    schema = _schema()
    for name in NEEDED:
        if name not in table.column_names:
            raise ValueError(f"has no column {name}")
    columns = {name: table[name].cast(schema.field(name).type) for name in schema.names if name in table.column_names}
    table = pyarrow.table(columns)
    steps = lane_rows(table, "steps")
    for name in NEEDED:
        if steps[name].null_count:
            raise ValueError(f"has a step without {name}")
    latency = steps["latency_s"].to_numpy()
    if not ((latency >= 0) & (latency <= LONGEST_STEP_S)).all():  # neither holds for a NaN
        raise ValueError("has a step of a time that is none")
    return table


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
            ("run_id", pyarrow.string()),
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


def _timed(blocks: Sequence[Block], prepared: Prepared) -> Iterator[Chunk]:
    contexts: dict[tuple[int, int, tuple[int, ...]], list[int]] = {}  # by batch and steps: the same in every block
    for block in blocks:
        for visit in block.visits:
            steps = len(visit.step_s or ())
            if not steps:
                continue
            key = (visit.batch, steps, visit.made)
            if key not in contexts:
                prompt = max(len(prepared.prompts[index]["token_ids"]) for index in prepared.batches[visit.batch])
                ends = list(accumulate(visit.made))[1:] or range(2, steps + 2)  # new tokens so far
                contexts[key] = [prepared.interruptions.context(prompt, end - 1) for end in ends]
            yield {
                "block": block.index,
                "arm": visit.arm,
                "batch": visit.batch,
                "prompt": prepared.batches[visit.batch][0],
                "step": range(1, steps + 1),
                "context_length": contexts[key],
                "latency_s": visit.step_s,
                "lane": "steps",
            }


def _traced(traced: Sequence[TracedPass], prepared: Prepared) -> Iterator[Chunk]:
    batch_of = {prompt: number for number, members in enumerate(prepared.batches) for prompt in members}
    for each in traced:
        for prompt, sequence in enumerate(each.sequences):
            length = len(prepared.prompts[prompt]["token_ids"])
            yield {
                "arm": each.arm,
                "batch": batch_of[prompt],
                "prompt": prompt,
                "step": range(len(sequence)),
                "context_length": [prepared.interruptions.context(length, step) for step in range(len(sequence))],
                "lane": "trace",
                "token_id": [token.token_id for token in sequence],
                "token_text": [token.text for token in sequence],
                "probability": [token.probability for token in sequence],
                "rank": [token.rank for token in sequence],
                "entropy_nats": [token.entropy_nats for token in sequence],
                "alternatives": [token.alternatives for token in sequence],
            }
