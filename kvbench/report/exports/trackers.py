"""A run sent to an experiment tracker: its parameters, its figures with their intervals, and its report.

All trackers are sent the same (`Sent`), made from the run folder that may be shared: no texts, no names, places or
secrets. Where a tracker keeps its runs is set by its own variables, such as MLFLOW_TRACKING_URI or WANDB_PROJECT.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kvbench.arm import arm_names
from kvbench.records.run_record import RunRecord
from kvbench.records.store import REPORT, StoredRun
from kvbench.report.exports.columns import ARM, PAIR
from kvbench.report.exports.formats import markdown
from kvbench.report.exports.rows import arm_rows, run_row
from kvbench.report.exports.shared import write_shared
from kvbench.report.names import run_name
from kvbench.report.page.html import build

PROJECT = "kvbench"  # unless a variable of the tracker names another
Value = str | int | float | bool


@dataclass(frozen=True)
class Sent:
    """What every tracker gets of a run."""

    name: str
    run_id: str
    created_s: float  # since 1970, UTC
    parameters: Mapping[str, Value]
    figures: Mapping[str, float]  # such as `cached-dynamic/itl_s_ci_low`, in base units
    table: str  # in Markdown
    report: Path


def send(run: StoredRun, tracker: str) -> str:
    """Send a run to one of `SENDERS`; returns where it is. Raises whatever the tracker's library raises."""
    with tempfile.TemporaryDirectory(prefix="kvbench-track-") as folder, _in_silence():
        return SENDERS[tracker](_sent(run, Path(folder)), run.folder)


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    """The libraries tell of themselves, of upgrades and of links: ours is the one line that is shown."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _sent(run: StoredRun, folder: Path) -> Sent:
    shared = write_shared(run, folder / "run")
    report = folder / REPORT
    build([shared], report, redact=True)
    record = shared.record
    facts = {name: value for name, value in run_row(shared).items() if name != "folder"}
    parameters = {**dict(_flat(record.config)), **facts}
    return Sent(
        f"{run_name(record)} {record.run_id}",
        record.run_id,
        datetime.fromisoformat(record.created_at).timestamp(),
        {name: value for name, value in parameters.items() if value is not None},
        _figures(shared),
        markdown([record]),
        report,
    )


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value | None]]:
    """Every key of a configuration with its value; a list is written as JSON."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, (list, tuple)) else value


def _figures(run: StoredRun) -> dict[str, float]:
    """Every number that is known of each arm, by the arm's name and the column's."""
    names = _distinct(run.record)
    numbers = [name for name, column in {**ARM, **PAIR}.items() if column.kind in (int, float)]
    return {
        f"{names[index]}/{name}": float(value)
        for index, row in enumerate(arm_rows(run))
        for name in numbers
        if isinstance(value := row.get(name), (int, float))
    }


def _distinct(record: RunRecord) -> list[str]:
    """Names of the arms in letters that every tracker takes."""
    names = [re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-") for name in arm_names(record.arms)]
    return [name if names.count(name) == 1 else f"{name}-{index}" for index, name in enumerate(names)] or ["run"]


# The trackers. Each gets what is sent and the run folder, and returns where it went.


def _mlflow(sent: Sent, _: Path) -> str:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default of 7 takes minutes to give up
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient()  # no `start_run`, which would add the user's name and the program's path
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    known = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if known is None else known.experiment_id
    began = int(sent.created_s * 1000)
    run = client.create_run(experiment, start_time=began, run_name=sent.name).info.run_id
    parameters = [Param(name, str(value)) for name, value in sent.parameters.items()]
    figures = [Metric(name, value, began, 0) for name, value in sent.figures.items()]
    for start in range(0, len(parameters), 100):  # the most that it takes at a time, and 1000 of the others
        client.log_batch(run, params=parameters[start : start + 100])
    for start in range(0, len(figures), 1000):
        client.log_batch(run, metrics=figures[start : start + 1000])
    client.log_artifact(run, str(sent.report))
    client.set_terminated(run)
    return f"run {run} of experiment {name}"


def _wandb(sent: Sent, _: Path) -> str:
    import wandb

    settings = wandb.Settings(  # nothing of this machine, its user or the program
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        host="",
        init_timeout=30,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    offline = os.environ.get("WANDB_MODE") in ("offline", "dryrun")
    if not offline and not wandb.api.api_key:
        raise RuntimeError("not logged in: run `wandb login`, or set WANDB_MODE=offline")
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    with wandb.init(project=project, name=sent.name, config=dict(sent.parameters), settings=settings) as run:
        run.summary.update(dict(sent.figures))
        artifact = wandb.Artifact("report", type="report")
        artifact.add_file(str(sent.report))
        run.log_artifact(artifact)
        return f"run {run.id} of project {project}{' (offline)' if offline else ''}"


def _trackio(sent: Sent, _: Path) -> str:
    import trackio

    project = os.environ.get("TRACKIO_PROJECT", PROJECT)
    trackio.init(
        project=project,
        name=sent.name,
        config=dict(sent.parameters),
        space_id=os.environ.get("TRACKIO_SPACE_ID"),
        embed=False,
        auto_log_cpu=False,
        auto_log_gpu=False,
    )
    try:
        trackio.log(dict(sent.figures))
        artifact = trackio.Artifact("report", type="report")
        artifact.add_file(str(sent.report))
        trackio.log_artifact(artifact)
    finally:
        trackio.finish()
    return f"run {sent.name} of project {project}"


def _tensorboard(sent: Sent, folder: Path) -> str:
    """A folder `tensorboard` in the run folder. Written by the record: the usual writer names the host in its file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.metadata import PLUGIN_NAME, create_summary_metadata
    from tensorboard.summary.writer.record_writer import RecordWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    place = folder / "tensorboard"
    place.mkdir(exist_ok=True)
    text = Summary.Value(
        tag="report",
        metadata=create_summary_metadata(display_name="report", description=""),
        tensor=make_tensor_proto(sent.table.encode(), dtype=None),
    )
    assert text.metadata.plugin_data.plugin_name == PLUGIN_NAME
    summaries = [
        hparams_pb(dict(sent.parameters), trial_id=sent.run_id, start_time_secs=sent.created_s),
        Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in sent.figures.items()]),
        Summary(value=[text]),
    ]
    file = place / f"events.out.tfevents.{int(sent.created_s)}.{PROJECT}"
    with file.open("wb") as stream:
        writer = RecordWriter(stream)
        writer.write(Event(wall_time=sent.created_s, file_version="brain.Event:2").SerializeToString())
        for summary in summaries:
            writer.write(Event(wall_time=sent.created_s, step=0, summary=summary).SerializeToString())
        writer.flush()
    (place / REPORT).write_bytes(sent.report.read_bytes())
    return str(place)


SENDERS: Mapping[str, Callable[[Sent, Path], str]] = {
    "mlflow": _mlflow,
    "wandb": _wandb,
    "trackio": _trackio,
    "tensorboard": _tensorboard,
}
