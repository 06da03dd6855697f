"""Everything that is needed to run a measurement again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from kvbench.config.conf_files import yaml_text
from kvbench.printable import printable
from kvbench.records.run_record import RunRecord
from kvbench.report.formatting import UNKNOWN
from kvbench.report.names import device_name

FOLDER = "repeat-this"


@dataclass(frozen=True)
class Repeat:
    """Commands to type, the config.yaml that they read, and what it ran with."""

    commands: str
    config: str
    ran_with: tuple[tuple[str, str], ...]


def repeat(record: RunRecord) -> Repeat | None:
    """How to repeat a run; None for one that never had a configuration of its own."""
    if "workload" not in record.config:
        return None
    environment, workload = record.environment, record.workload
    versions = {name: environment.get(name) for name in ("torch", "transformers")}
    pins = [shlex.quote(f"{name}=={_public(str(version))}") for name, version in versions.items() if version]
    install = [f"pip install {' '.join(pins)}"] if pins else []
    commit = str(environment.get("git_commit") or UNKNOWN)
    dirty = " with changes that are in no commit" if environment.get("git_dirty") else ""
    ran_with = (
        ("kvbench", record.kvbench_version),
        ("git commit", f"{commit}{dirty}"),
        ("torch", str(versions["torch"] or UNKNOWN)),
        ("transformers", str(versions["transformers"] or UNKNOWN)),
        ("device", device_name(record)),
        ("prompts, SHA-256", UNKNOWN if workload is None else workload.prompt_sha256),
    )
    return Repeat(
        commands="\n".join([*install, f"python -m kvbench --config-path {FOLDER}"]) + "\n",
        config=_readable_yaml(record),
        ran_with=tuple((name, printable(value)) for name, value in ran_with if value != UNKNOWN),
    )


def _public(version: str) -> str:
    """Without what a build appends, such as +cu130: no index holds that."""
    return printable(version.partition("+")[0])


def _readable_yaml(record: RunRecord) -> str:
    """As it is read by people; with escapes where it holds a character that could hide something from them."""
    text = yaml_text(record.config)
    return text if printable(text) == text else yaml_text(record.config, ascii_only=True)
