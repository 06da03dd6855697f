"""Digests of what must be equal: for two runs to be compared, and for a finished point not to be measured again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import kvbench
from kvbench.config.compose import to_dict
from kvbench.measuring.samples import Prepared
from kvbench.plan import Plan
from kvbench.records.schema import Keys

STABLE_ENVIRONMENT = ("python", "torch", "transformers", "cuda", "driver", "device_name", "cpu", "threads")


def make_keys(plan: Plan, prepared: Prepared | None) -> Keys:
    """Keys of a run; before the worker has answered, dtype and device are what the configuration asks for."""
    model = prepared.model if prepared else {}
    environment = prepared.environment if prepared else {}
    config = plan.config
    comparable = {
        "model": plan.model_name,
        "dtype": model.get("dtype", config.model.dtype),
        "quantization": config.model.quantization,
        "device_name": environment.get("device_name", config.device),
        "workload": to_dict(config)["workload"],
        "interruptions": {"steps": plan.interrupt_steps, "message": config.interrupt.message},
        "sampling": to_dict(config)["sampling"],
        "arms": [asdict(arm) for arm in plan.arms],
    }
    everything = {
        **comparable,
        "config": _without_places(to_dict(config)),
        "kvbench": kvbench.__version__,
        "git_commit": environment.get("git_commit"),
        "environment": {name: environment.get(name) for name in STABLE_ENVIRONMENT},
    }
    return Keys(compare_key=_digest(comparable), resume_key=_digest(everything))


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    """Where results go does not change them."""
    return {key: value for key, value in config.items() if key not in ("results_dir", "name", "report")}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
