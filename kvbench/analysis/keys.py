"""Digests of what must be equal: for two runs to be compared, and for a finished point not to be measured again."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import kvbench
from kvbench.arm import Arm
from kvbench.config.compose import to_dict
from kvbench.config.schema import ModelConfig
from kvbench.errors import ModelUnavailable
from kvbench.measuring.environment import ALL_DEVICES, STABLE
from kvbench.model_folder import adapter_in, cached_commit
from kvbench.plan import Plan
from kvbench.records.run_record import Keys
from kvbench.records.samples import Prepared


def source_digest(target: str) -> str:
    """A digest of the Python files that a target is likely to be made of.

    For a module of a package, all of its top-level package; for one by itself, the files beside it, among which
    are those that it imports. Of a module without a source file no two digests are equal: its change would go unseen.
    """
    module = target.partition(":")[0].split(".")
    found = next((source for root in _roots() if (source := _source(root, module)) is not None), None)
    if found is None:
        return secrets.token_hex(16)
    folder, files = found
    content = hashlib.sha256()
    for path in sorted(files):
        content.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()


def _roots() -> list[Path]:
    """Where the worker will look: the current folder first, then Python's own path."""
    return [Path.cwd(), *map(Path, filter(None, sys.path))]


def _source(root: Path, module: list[str]) -> tuple[Path, Iterable[Path]] | None:
    """The folder that the module is found in and the files to read; None when it is not in `root`."""
    place = root.joinpath(*module)
    if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()):
        return None
    package = root / module[0]
    return root, package.rglob("*.py") if package.is_dir() else root.glob("*.py")


# Where results go, what is drawn of them, who gets them, in which language, whether old ones count: it does not change
# them.
NO_MATTER = ("jobs", "results_dir", "name", "title", "report", "track", "language", "resume")
CODE = ("*.py", "*.json", "*.safetensors", "*.yaml")


CAME_LATER = ("prefill_chunk", "shared_tokens")  # of the workload's keys


def make_keys(plan: Plan, prepared: Prepared | None) -> Keys:
    """Keys of a run; before the worker has answered, dtype and device are what the configuration asks for."""
    model = prepared.model if prepared else {}
    environment = prepared.environment if prepared else {}
    config = to_dict(plan.config)
    comparable = {
        "model": plan.model_name,
        "dtype": model.get("dtype", plan.config.model.dtype),
        "quantization": plan.config.model.quantization,
        "device_name": environment.get("device_name", plan.config.device),
        "workload": _workload(config["workload"]),
        "interruptions": {"steps": plan.interrupt_steps, "message": plan.config.interrupt.message},
        "sampling": config["sampling"],
        "arms": [_stated(arm) for arm in plan.arms],
        **({} if plan.config.scaling.lengths is None else {"lengths": plan.prompts.lengths}),
        **({} if plan.config.frontier.axes is None else {"frontier": plan.config.frontier.axes}),
        **_adapter(model.get("adapter")),
        **_own_model(plan.config.model),
        **_proposing(plan, config),
        **_spread(plan.config.model, environment, "device_count"),
    }
    commit = model.get("revision")
    return Keys(
        # Behind the digest, where a comparison of two revisions can leave it out.
        compare_key=_digest(comparable) + (f"@{commit}" if commit else ""),
        resume_key=resume_key(plan, environment, commit),
    )


def resume_key(plan: Plan, environment: Mapping[str, Any], commit: str | None = None) -> str:
    """The digest of a point before it is measured: configuration, prompts, a local model's files, code, environment.

    `environment` needs the entries of `STABLE` and `ALL_DEVICES` alone. `commit` is that of the hub's model as it was
    loaded; without one, the local cache tells which it has. The code counts by its content, not its version or commit:
    an edited line makes another key; so does one of a model of one's own.
    """
    config = {key: value for key, value in to_dict(plan.config).items() if key not in NO_MATTER}
    target = plan.config.model.target
    return _digest(
        {
            "config": config,
            "prompts": asdict(plan.prompts),
            **({} if target is None else {"target_source": source_digest(target)}),
            "model_files": _files(Path(plan.config.model.path)) if plan.config.model.path else None,
            **_base_of_adapter(plan.config.model),
            **_draft_files(plan),
            "code": _code(),
            "commit": commit or _cached_commit(plan.config.model),
            "environment": {name: environment.get(name) for name in STABLE},
            **_spread(plan.config.model, environment, ALL_DEVICES),
        }
    )


def _stated(arm: Arm) -> dict[str, Any]:
    """What is set of an arm; a setting that came later leaves the keys of arms without it as they were."""
    return {name: value for name, value in asdict(arm).items() if value is not None}


def _workload(workload: dict[str, Any]) -> dict[str, Any]:
    """The same for keys that came later."""
    return {key: value for key, value in workload.items() if key not in CAME_LATER or value is not None}


def _own_model(model: ModelConfig) -> dict[str, Any]:
    """What tells models of one factory apart; its source may change, which is what such runs are compared for."""
    return {} if model.target is None else {"target": model.target, "options": model.options}


def _spread(model: ModelConfig, environment: Mapping[str, Any], devices: str) -> dict[str, Any]:
    """How a model lies over several devices, and their number or their names; nothing for a model on one."""
    if model.tensor_parallel > 1:
        return {"tensor_parallel": model.tensor_parallel}
    if model.device_map is None:
        return {}
    names = environment.get(ALL_DEVICES)
    count = None if names is None else len(names)
    return {"device_map": model.device_map, devices: names if devices == ALL_DEVICES else count}


def _proposing(plan: Plan, config: Mapping[str, Any]) -> dict[str, Any]:
    """How much is proposed, and by which draft; nothing for modes that propose nothing."""
    return {mode: config[mode] for mode in ("assisted", "prompt_lookup") if mode in plan.config.modes}


def _draft_files(plan: Plan) -> dict[str, Any]:
    """Of a draft in a local folder; nothing without an assisted arm."""
    return {"draft_files": _files(Path(plan.config.assisted.model))} if "assisted" in plan.config.modes else {}


def _cached_commit(model: ModelConfig) -> str | None:
    from_hub = model.id is not None and (
        model.weights == "hub" or (model.weights == "random" and not model.architecture and model.path is None)
    )
    return cached_commit(str(model.id), model.revision) if from_hub else None


def _adapter(applied: Mapping[str, Any] | None) -> dict[str, Any]:
    """What tells a model with an adapter from its base; where the base lies does not."""
    if applied is None:
        return {}
    return {"adapter": {**applied, "base": PurePath(applied["base"] or "").name}}


def _base_of_adapter(model: ModelConfig) -> dict[str, Any]:
    """What the base of a folder's adapter is, where it lies elsewhere; nothing for any other model."""
    try:
        adapter = adapter_in(Path(model.path)) if model.path else None
    except ModelUnavailable:  # damaged: it will be refused
        return {}
    if adapter is None or adapter.beside_base:
        return {}
    if adapter.local_base is not None:
        return {"adapter_base": _files(adapter.local_base)}
    return {"adapter_base": cached_commit(str(adapter.base), adapter.revision)}


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change: hashing gigabytes of weights would take longer than many a run."""
    files = sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


@cache
def _code() -> str:
    """Of every file that this process runs or decodes with, as they were when it was first asked."""
    folder = Path(kvbench.__file__).parent
    content = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in folder.rglob(pattern)):
        content.update(path.relative_to(folder).as_posix().encode())
        content.update(path.read_bytes())
    return content.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
