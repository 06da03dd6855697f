"""A rank after the first, where torchrun has started a program for each: it decodes with the others, silently."""

from __future__ import annotations

import os
from pathlib import Path

from kvbench.config.schema import Config
from kvbench.errors import KvbenchError
from kvbench.readiness import ready_plan
from kvbench.running.faults import stopped_by_signals
from kvbench.running.supervisor import Supervisor


@stopped_by_signals()
def follow(config: Config) -> int:
    """Take this rank's part in one run; rank 0 tells what is learnt and writes the record."""
    try:
        with Supervisor() as supervisor:
            supervisor.measure(ready_plan(config), Path(os.devnull), lambda _message: None)
    except KvbenchError as error:  # rank 0 has the sentence
        return error.exit_code
    return 0
