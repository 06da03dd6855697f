"""The exported JSON Schema says what the reader says: it takes what is read and refuses what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kvbench.errors import RecordError
from kvbench.records.json_schema import record_schema
from kvbench.records.store import RECORD, find_runs, read_record

Run = Callable[..., tuple[int, str, str]]
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def stored(run_kvbench: Run, tmp_path: Path) -> Path:
    """The run.json of a whole run with everything in it that a script can have."""
    run_kvbench(
        *("model=scripted", "model.sensors=steady", "audit=true", "model.unseen_length_s=1", "workload.new_tokens=4"),
        *("workload.prompt_tokens=4", "launch=inline", "report=false"),
    )
    (run,) = find_runs([tmp_path / "results"]).runs
    return run.folder / RECORD


def test_is_a_schema_itself() -> None:
    jsonschema.Draft202012Validator.check_schema(record_schema())


def test_is_exported_by_the_command_line(run_kvbench: Run, tmp_path: Path) -> None:
    code, out, err = run_kvbench("export", "--schema")
    assert (0, "") == (code, err)
    assert record_schema() == json.loads(out)
    assert 0 == run_kvbench("export", "--schema", "--output", "schema.json")[0]
    assert record_schema() == json.loads((tmp_path / "schema.json").read_text())


def test_takes_a_whole_record(stored: Path) -> None:
    jsonschema.validate(json.loads(stored.read_text()), record_schema())


EDITS: dict[str, Edit] = {
    "an unknown field": lambda run: run.update(surprise=1),
    "an unknown field of an arm": lambda run: run["arms"][0].update(surprise=1),
    "another version": lambda run: run.update(schema_version=2),
    "an unknown status": lambda run: run.update(status="fine"),
    "a missing field": lambda run: run.pop("keys"),
    "text for a number": lambda run: run["arms"][0]["ttft_s"].update(value="fast"),
    "a number for a list": lambda run: run.update(checks=3),
}


@pytest.mark.parametrize("name", EDITS)
def test_refuses_what_the_reader_refuses(stored: Path, name: str) -> None:
    run = json.loads(stored.read_text())
    EDITS[name](run)
    stored.write_text(json.dumps(run))
    with pytest.raises(RecordError):
        read_record(stored)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(run, record_schema())
