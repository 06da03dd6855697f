"""What of a run may leave this machine: a run folder of figures, without texts, names, places and secrets.

A dataset and a tracker get this folder, or what is made from it, and nothing else. `show`, `report`, `compare` and
`query` read it like any other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvbench.errors import RecordError
from kvbench.records.run_record import RunRecord
from kvbench.records.step_table import lane_rows
from kvbench.records.store import (
    BLOCKS,
    RECORD,
    STEPS,
    Hearer,
    StoredRun,
    Unreadable,
    nobody,
    read_blocks,
    read_steps,
    replace_file,
)
from kvbench.report.exports.formats import parquet_bytes, record_json
from kvbench.report.redaction import redacted, redacted_text

if TYPE_CHECKING:
    import pyarrow

STEP_COLUMNS = ("block", "arm", "batch", "prompt", "step", "context_length", "latency_s")
# Sections of the configuration, and the keys in them that hold somebody's own words.
TEXT_KEYS = {"workload": "prompt", "interrupt": "message"}
BLOCK_PARTS = ("index", "elapsed_s", "visits", "device_before", "device_after", "throttled", "repeats")
VISIT_PARTS = ("arm", "lane", "sequences", "new_tokens", "steps", "decode_s")


def shared_record(record: RunRecord) -> RunRecord:
    """The record without prompts, generated texts and tokens, and without host, user, places and secrets."""
    config = {
        name: {**part, TEXT_KEYS[name]: None} if name in TEXT_KEYS and isinstance(part, dict) else part
        for name, part in record.config.items()
        if name != "overrides"  # as typed, which may be a prompt
    }
    arms = tuple(arm.model_copy(update={"texts": (), "tokens": ()}) for arm in record.arms)
    return redacted(record.model_copy(update={"config": config, "arms": arms}))


def write_shared(run: StoredRun, folder: Path, tell: Hearer = nobody) -> StoredRun:
    """Write the run folder that may be shared: run.json, blocks.jsonl, steps.parquet. Returns the run in it.

    `tell` hears of files of the run that cannot be read. Raises `RecordError` when a file cannot be written.
    """
    record = shared_record(run.record)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise RecordError(f"{folder}: cannot create ({error.strerror})") from error
    replace_file(folder / RECORD, record_json(record.model_dump(mode="json")))
    if blocks := read_blocks(run.folder, tell):
        lines = (json.dumps(_block(block)) for block in blocks)
        replace_file(folder / BLOCKS, "".join(f"{line}\n" for line in lines).encode())
    try:
        steps = read_steps(run.folder)
    except RecordError as error:
        tell(Unreadable.of(run.folder / STEPS, error))
        steps = None
    if steps is not None:
        replace_file(folder / STEPS, parquet_bytes(_timed(steps, record.run_id)))
    return StoredRun(record, folder, redacted=True)


def _timed(steps: pyarrow.Table, run_id: str) -> pyarrow.Table:
    """The steps that were timed; what a trace holds is what was written, token by token."""
    import pyarrow

    steps = lane_rows(steps, "steps")
    columns = {name: steps[name] for name in STEP_COLUMNS if name in steps.column_names}
    same = {name: pyarrow.repeat(value, steps.num_rows) for name, value in (("run_id", run_id), ("lane", "steps"))}
    return pyarrow.table({"run_id": same["run_id"], **columns, "lane": same["lane"]})


def _block(block: dict[str, Any]) -> dict[str, Any]:
    """The parts of a block that readers use; a file may hold more."""
    kept = {name: _scrubbed(block[name]) for name in BLOCK_PARTS if name in block}
    kept["visits"] = [{name: _scrubbed(visit[name]) for name in VISIT_PARTS} for visit in block["visits"]]
    return kept


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, dict):
        return {redacted_text(str(name)): _scrubbed(item) for name, item in value.items()}
    return [_scrubbed(item) for item in value] if isinstance(value, list) else value
