"""What sets two runs of different `compare_key` apart, in the words of the keys that it is made of."""

from __future__ import annotations

from typing import Any

from kvbench.records.schema import ArmRecord, RunRecord

REVISION = "model.revision"


def kind_of(run: RunRecord, *, any_revision: bool = False) -> str:
    """The `compare_key` of a run, in today's form; with `any_revision` without the commit of its model.

    Older records have a key without the commit, and state it elsewhere.
    """
    digest, _, commit = run.keys.compare_key.partition("@")
    if any_revision:
        return digest
    commit = commit or str((run.model or {}).get("revision") or "")
    return f"{digest}@{commit}" if commit else digest


def difference(run: RunRecord, other: RunRecord) -> list[str]:
    """Every entry in which the two differ and that a `compare_key` holds, such as `device_name (A, there B)`."""
    own, its = _comparable(run), _comparable(other)
    names = [name for name in dict.fromkeys([*own, *its]) if own.get(name) != its.get(name)]
    return [f"{name} ({own.get(name)}, there {its.get(name)})" for name in names]


def _comparable(run: RunRecord) -> dict[str, Any]:
    """The parts of `compare_key` that a record tells; see `analysis.keys.make_keys`."""
    model = run.model or {}
    configured = run.config.get("model")
    asked = configured if isinstance(configured, dict) else {}
    return {
        "model": model.get("name", asked.get("name")),
        "dtype": model.get("dtype", asked.get("dtype")),
        "quantization": asked.get("quantization"),
        REVISION: model.get("revision"),
        "model.device_map": asked.get("device_map"),
        "device_count": len(run.environment.get("device_names") or ()) if asked.get("device_map") else None,
        "device_name": run.environment.get("device_name", run.config.get("device")),
        **_entries(run, "workload"),
        **_entries(run, "sampling"),
        "arms": ", ".join(map(_arm, run.arms)),
    }


def _arm(arm: ArmRecord) -> str:
    """Such as `nocache/none/compiled/auto/none/reduce-overhead/64`: what is set of it."""
    return "/".join(str(value) for value in arm.parts.values() if value is not None)


def _entries(run: RunRecord, group: str) -> dict[str, Any]:
    values = run.config.get(group)
    return {f"{group}.{key}": value for key, value in values.items()} if isinstance(values, dict) else {}
