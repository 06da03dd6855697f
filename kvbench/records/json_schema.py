"""The record's JSON Schema, for readers in other languages: each figure with its title, unit and better direction."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from kvbench.records.run_record import SCHEMA_VERSION, RunRecord

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def record_schema() -> dict[str, Any]:
    """What run.json of this version's `schema_version` looks like; a record that `store.read_record` reads meets it."""
    return {"$schema": DIALECT, "title": f"kvbench run.json, version {SCHEMA_VERSION}", **_described()}


def record_schema_json() -> bytes:
    """The same, as a file."""
    return (json.dumps(record_schema(), indent=1, ensure_ascii=False) + "\n").encode()


def _described() -> dict[str, Any]:
    schema = RunRecord.model_json_schema()
    return {key: value for key, value in schema.items() if key != "title"}
