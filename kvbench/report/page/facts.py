"""What the page tells of a run besides its figures, and what is needed to run it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kvbench.arm import arm_names
from kvbench.config.conf_files import yaml_text
from kvbench.records.run_record import RunRecord
from kvbench.report.names import device_name
from kvbench.report.run_facts import shape_rows
from kvbench.text import UNKNOWN, format_value, printable


@dataclass(frozen=True)
class Facts:
    """A table of names and values, such as the configuration."""

    title: str
    rows: tuple[tuple[str, str], ...]


def facts(record: RunRecord) -> tuple[Facts, ...]:
    """Everything known about a run besides its figures, as titled lists; empty ones are left out."""
    sources: tuple[tuple[str, Any], ...] = (
        ("Model", record.model),
        ("Environment", record.environment),
        ("Configuration", record.config),
        ("What the model returned", _shapes(record)),
        ("First visits explained", _first_visits(record)),
        ("Blocks that stand out", _outliers(record)),
        ("The device during the blocks", record.device_during and record.device_during.model_dump()),
        ("The host before and after the blocks", record.host_checks and record.host_checks.model_dump()),
        ("Audits", _audits(record)),
        ("Against the first point of its sweep", record.sweep_audit and record.sweep_audit.model_dump()),
        ("Seconds by phase", {phase.name: f"{phase.seconds:.3g}" for phase in record.phases}),
        ("Stopping", None if record.stopping is None else record.stopping.model_dump()),
        ("Keys", record.keys.model_dump()),
    )
    return tuple(Facts(title, tuple(_flattened(source, ""))) for title, source in sources if source)


def _first_visits(record: RunRecord) -> dict[str, dict[str, str]]:
    """Arm by arm and attention by attention: a step at a length never seen before, and the same once more."""
    return {
        name: {
            f"attention {probe.attention} from {probe.context_length} tokens": (
                f"{format_value(probe.first_itl_s, 's')} a step the first time,"
                f" {format_value(probe.second_itl_s, 's')} the second"
            )
            for probe in arm.cold.probes or ()
        }
        for name, arm in zip(arm_names(record.arms), record.arms, strict=True)
        if arm.cold.probes
    }


def _outliers(record: RunRecord) -> dict[str, str]:
    return {
        name: f"ITL of block {', '.join(map(str, arm.outlier_blocks))}; kept in every figure"
        for name, arm in zip(arm_names(record.arms), record.arms, strict=True)
        if arm.outlier_blocks
    }


def _audits(record: RunRecord) -> dict[str, str]:
    names = arm_names(record.arms)
    return {f"{names[audit.arm]}: {audit.name}": audit.detail for audit in record.audits}


def _shapes(record: RunRecord) -> dict[str, dict[str, str]]:
    """Pass by pass, tensor by tensor."""
    return {name: {row.name: row.line for row in shape_rows(parts)} for name, parts in (record.shapes or {}).items()}


def _flattened(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Nested mappings as dotted names; everything else as its JSON, strings without their quotes."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flattened(item, f"{name}.{key}" if name else str(key))
    elif value is None:
        yield name, UNKNOWN
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# Everything that is needed to run a measurement again.


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
