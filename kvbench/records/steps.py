"""The per-step table: one row per decode step of the per-token lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvbench.interruptions import Interruptions
from kvbench.measuring.samples import Block

if TYPE_CHECKING:
    import pyarrow


def step_table(
    blocks: Sequence[Block],
    batches: Sequence[Sequence[int]],
    prompt_tokens: Sequence[int],
    interruptions: Interruptions,
) -> pyarrow.Table:
    """Columns: block, arm, batch, prompt (index of the batch's first prompt), step (1 is the first after the prefill),
    context_length (tokens visible to the step, of the batch's longest sequence), latency_s.
    """
    import pyarrow

    columns: dict[str, list[float]] = {
        name: [] for name in ("block", "arm", "batch", "prompt", "step", "context_length", "latency_s")
    }
    for block in blocks:
        for visit in block.visits:
            prompt = max(prompt_tokens[index] for index in batches[visit.batch])
            for step, latency_s in enumerate(visit.step_s or (), start=1):
                row = (
                    block.index,
                    visit.arm,
                    visit.batch,
                    batches[visit.batch][0],
                    step,
                    interruptions.context(prompt, step),
                    latency_s,
                )
                for name, value in zip(columns, row, strict=True):
                    columns[name].append(value)
    types = {"latency_s": pyarrow.float64()}
    return pyarrow.table(
        {name: pyarrow.array(column, types.get(name, pyarrow.int32())) for name, column in columns.items()}
    )
