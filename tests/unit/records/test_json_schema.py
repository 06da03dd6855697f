"""The exported JSON Schema says what the reader says: it takes what is read and refuses what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kvbench.errors import RecordError
from kvbench.records.run_record import record_schema
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


def figures(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property that holds numbers, itself, in a list or in a mapping, or a number with its interval."""
    for part, defined in {"": schema, **schema["$defs"]}.items():
        for name, field in defined["properties"].items():
            if "const" not in field and holds_numbers(field):
                yield f"{part}.{name}", field


def holds_numbers(field: dict[str, Any]) -> bool:
    inside = [*field.get("anyOf", ()), *(field[at] for at in ("items", "additionalProperties") if at in field)]
    is_figure = field.get("$ref") in ("#/$defs/Estimate", "#/$defs/Speedup")
    return (
        is_figure
        or field.get("type") in ("number", "integer")
        or any(isinstance(each, dict) and holds_numbers(each) for each in inside)
    )


def test_says_of_every_figure_what_it_is_called_how_it_came_to_be_its_unit_and_which_direction_is_better() -> None:
    found = dict(figures(record_schema()))
    assert len(found) > 190
    wanting = [
        name
        for name, field in found.items()
        if not field.get("unit")
        or field.get("better") not in ("lower", "higher", "none")
        or not field.get("description", "").endswith(".")
        or field["title"] == name.rpartition(".")[2].replace("_", " ").title()
    ]
    assert [] == wanting


def test_takes_a_whole_record(stored: Path, record_schema_validator: Any) -> None:
    record_schema_validator.validate(json.loads(stored.read_text()))


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
def test_refuses_what_the_reader_refuses(stored: Path, record_schema_validator: Any, name: str) -> None:
    run = json.loads(stored.read_text())
    EDITS[name](run)
    stored.write_text(json.dumps(run))
    with pytest.raises(RecordError):
        read_record(stored)
    with pytest.raises(jsonschema.ValidationError):
        record_schema_validator.validate(run)
