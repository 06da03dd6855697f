"""What `kvbench.measure` returns: the record of a run, with what a notebook or a script does with it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import PrivateAttr

from kvbench.errors import ConfigError, RecordError
from kvbench.language import speaking
from kvbench.plan import Plan
from kvbench.records.run_record import RunRecord
from kvbench.records.samples import RunSamples
from kvbench.records.step_table import step_table
from kvbench.records.store import REPORT, RunFolder, StoredRun, read_blocks, read_steps

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

WIDTH = 100  # characters of a printed run: a notebook has no width of its own
Row = Literal["arm", "step"]


class Evidence(Protocol):
    """What lies beside a record in its run folder, wherever it is now."""

    @property
    def folder(self) -> Path | None:
        """The run folder that is read, if there is one."""

    def blocks(self) -> tuple[dict[str, Any], ...]:
        """The lines of blocks.jsonl."""

    def steps(self) -> pyarrow.Table | None:
        """The per-step table; None where steps were not timed one by one."""

    def write(self, record: RunRecord, results_dir: Path) -> Path:
        """Write the run folder below `results_dir`; where it is. Raises `RecordError`."""


class InMemory:
    """Of a run that was measured in this process."""

    folder = None

    def __init__(self, plan: Plan, samples: RunSamples, run_id: str) -> None:
        self._plan = plan
        self._samples = samples
        self._run_id = run_id

    def blocks(self) -> tuple[dict[str, Any], ...]:
        """As they would be read from the file."""
        return tuple(json.loads(json.dumps(block, default=vars)) for block in self._samples.all_blocks)

    def steps(self) -> pyarrow.Table | None:
        """From the samples."""
        prepared = self._samples.prepared
        if prepared is None or not (self._plan.config.measure.step_lane and self._samples.all_blocks):
            return None
        return step_table(self._samples.all_blocks, prepared, self._samples.traced, run_id=self._run_id)

    def write(self, record: RunRecord, results_dir: Path) -> Path:
        """As the command line does, file by file."""
        from kvbench.config.compose import to_yaml
        from kvbench.point import write_end

        folder = RunFolder(results_dir, self._plan.name, record.run_id)
        if self._samples.prepared is not None:
            folder.write_config(to_yaml(self._plan.config))
            folder.write_prompts(self._samples.prepared.prompts)
        for block in self._samples.all_blocks:
            folder.append_block(block)
        write_end(folder, self._plan, self._samples, record)
        return folder.path


class InFolder:
    """Of a run that has its folder already."""

    def __init__(self, path: Path) -> None:
        self.folder = path

    def blocks(self) -> tuple[dict[str, Any], ...]:
        """Read anew at each call."""
        return read_blocks(self.folder)

    def steps(self) -> pyarrow.Table | None:
        """Read anew at each call."""
        return read_steps(self.folder)

    def write(self, record: RunRecord, results_dir: Path) -> Path:
        """A copy of the folder."""
        folder = RunFolder(results_dir, self.folder.parent.name, record.run_id)
        try:
            shutil.copytree(self.folder, folder.path, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise RecordError(f"{folder.path}: cannot write ({error})") from error
        return folder.path


class MeasuredRun(RunRecord):
    """The record of a run that was just measured: every field of `RunRecord`, and what is done with one in Python.

    In a notebook it shows its verdict, its table and its chart. `print` shows what the terminal shows, `repr` is one
    line. Texts are in the language that `KVBENCH_LANG` names, English by default.
    """

    _evidence: Evidence = PrivateAttr()

    @classmethod
    def of(cls, record: RunRecord, evidence: Evidence) -> MeasuredRun:
        """The record, with what it was made of."""
        fields = {name: getattr(record, name) for name in RunRecord.model_fields}
        run = cls.model_construct(record.model_fields_set, **fields)
        run._evidence = evidence
        return run

    def to_pandas(self, per: Row = "arm") -> pandas.DataFrame:
        """A pandas DataFrame with a row per arm, or with `per="step"` one per decode step that was timed by itself.

        Rows of arms have the columns of `kvbench export`, with units in their names; `folder` is null before the
        run has one. Rows of steps have run_id, block, arm, arm_name, batch, prompt, step (1 is the first after the
        prefill), context_length (tokens) and latency_s.

        Raises `kvbench.errors.ConfigError` without pandas, or where no step was timed by itself (`step_lane=False`).
        """
        table = self._table(per)
        _require("pandas", "to_pandas")
        return table.to_pandas()

    def to_polars(self, per: Row = "arm") -> polars.DataFrame:
        """The same as a polars DataFrame. Raises `kvbench.errors.ConfigError` as `to_pandas` does."""
        table = self._table(per)
        _require("polars", "to_polars")
        import polars

        frame = polars.from_arrow(table)
        assert isinstance(frame, polars.DataFrame)
        return frame

    def save(self, results_dir: str | Path = "results") -> Path:
        """Write the run folder that the command line writes, below `results_dir`; returns its path.

        It is `results_dir/NAME/RUN_ID`. `kvbench show`, `report`, `compare` and `export` read it, and `last` finds it
        in `results`. The report page is not written: `report` does that.

        Raises `kvbench.errors.RecordError` where it cannot be written, or was saved there before.
        """
        return self._evidence.write(self, Path(results_dir))

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report page of this run, one file that opens offline; returns its path.

        Raises `kvbench.errors.RecordError` where it cannot be written.
        """
        from kvbench.report.page.html import build

        output = Path(path)
        output = output / REPORT if output.is_dir() else output
        with speaking(None), TemporaryDirectory() as scratch:  # a page is built from run folders
            build([StoredRun(self, self.save(scratch))], output)
        return output

    def _table(self, per: str) -> pyarrow.Table:
        from kvbench.report.exports.formats import arm_table, named_steps
        from kvbench.report.exports.rows import flat_rows

        if per not in ("arm", "step"):
            raise ConfigError(f"per={per!r}: not known; allowed: arm, step")
        if per == "arm":
            folder = self._evidence.folder
            rows = flat_rows([StoredRun(self, folder or Path())])
            return arm_table(rows if folder else [row | {"folder": None} for row in rows])
        steps = self._evidence.steps()
        if steps is None:
            raise ConfigError("per='step': no step of this run was timed by itself; measure with step_lane=True")
        return named_steps(steps, self)

    def _repr_html_(self) -> str:
        from kvbench.report.page.card import card

        with speaking(None):
            return card(self, self._evidence.steps(), self._evidence.blocks())

    def __repr__(self) -> str:
        from kvbench.report.console import in_one_line

        with speaking(None):
            return f"<kvbench {in_one_line(self)}>"

    def __str__(self) -> str:
        from rich.console import Console

        from kvbench.report.console import whole_run

        console = Console(highlight=False, markup=False, emoji=False, width=WIDTH, force_jupyter=False, no_color=True)
        with speaking(None), console.capture() as captured:
            console.print(whole_run(self))
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    def __eq__(self, other: object) -> bool:
        """Whether both are the same record, however it was had."""
        return isinstance(other, RunRecord) and self.model_dump(mode="json") == other.model_dump(mode="json")

    __hash__ = None  # type: ignore[assignment]  # a record holds mappings


def _require(package: str, method: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{method} needs the package {package}, which is not installed: pip install {package}")
