"""What was measured before and need not be measured again."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from kvbench.analysis.keys import resume_key
from kvbench.config.schema import Config
from kvbench.errors import BadInput, RecordError
from kvbench.plan import make_plan
from kvbench.records.store import RECORD, StoredRun, finished_runs, read_record
from kvbench.running.supervisor import Runner


class Finished:
    """The runs below a folder that came to their end, as they were when first asked for, by `resume_key`."""

    def __init__(self, results_dir: Path, runner: Runner) -> None:
        self._results_dir = results_dir
        self._runner = runner
        self._environments: dict[tuple[bool, str, int | None], dict[str, Any]] = {}

    @cached_property
    def _folders(self) -> dict[str, Path]:
        # Once: what this very sweep measures is not measured before it.
        return finished_runs(self._results_dir)

    def run_of(self, config: Config) -> StoredRun | None:
        """The finished run of this very configuration, code and environment; None when it is to be measured."""
        if config.resume is False or not self._folders:
            return None
        try:
            plan = make_plan(config)
        except BadInput:
            return None  # refused in its turn
        place = (config.model.weights == "scripted", config.device, config.threads)
        if place not in self._environments:
            self._environments[place] = self._runner.survey(plan)
        environment = self._environments[place]
        folder = self._folders.get(resume_key(plan, environment)) if environment else None
        if folder is None:
            return None
        try:
            return StoredRun(read_record(folder / RECORD), folder)
        except RecordError:
            return None  # damaged since: measured again
