"""Launchers that start one program several times, such as `torchrun`: its processes disturb each other's times."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kvbench.errors import ConfigError

# Variables that tell one of several processes how many there are, with another that each launcher sets beside it, and
# the launcher's name. SLURM_NTASKS is not among them: a batch script that starts one process has it too.
COUNTS = {
    "WORLD_SIZE": ("RANK", "torchrun or a launcher like it"),
    "OMPI_COMM_WORLD_SIZE": ("OMPI_COMM_WORLD_RANK", "mpirun"),
    "MV2_COMM_WORLD_SIZE": ("MV2_COMM_WORLD_RANK", "mpirun"),
    "PMI_SIZE": ("PMI_RANK", "mpirun"),
    "SLURM_STEP_NUM_TASKS": ("SLURM_PROCID", "srun"),
}


def require_one_process(environ: Mapping[str, str] = os.environ) -> None:
    """Raise `ConfigError` where a launcher has started this program more than once: no run is spread over processes."""
    for count, (rank, launcher) in COUNTS.items():
        number = environ.get(count, "")
        if rank in environ and number.isdecimal() and int(number) > 1:
            raise ConfigError(
                f"{launcher} has started {number} processes ({count}={number}), and each would measure the whole model"
                " by itself while the others disturb its times: start one, without the launcher"
            )
