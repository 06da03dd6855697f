"""Every look at the machine that needs no torch, in one call."""

from __future__ import annotations

from kvbench.config.packages import require_packages
from kvbench.config.schema import Config
from kvbench.plan import Plan, make_plan
from kvbench.readiness.devices import require_device
from kvbench.readiness.lengths import require_lengths
from kvbench.readiness.models import found_folder
from kvbench.readiness.targets import require_target


def ready_plan(config: Config) -> Plan:
    """The plan of a checked configuration that this machine can measure as far as can be told within a second.

    Raises `BadInput`: packages, prompt files, the device, the model's files or folder, the lengths of the prompts.
    """
    require_packages(config)
    plan = make_plan(config)
    if config.model.weights == "scripted":
        return plan
    require_device(config.device)
    require_target(config.model)
    folder = found_folder(config.model)
    if folder is not None:
        require_lengths(plan, folder)
    return plan
