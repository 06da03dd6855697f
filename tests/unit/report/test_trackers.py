"""Each tracker's local store is read back: parameters, figures with their intervals, the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from kvbench.capabilities import TRACKERS
from kvbench.installation import install_hint
from kvbench.records.store import StoredRun
from kvbench.report.exports import trackers
from kvbench.report.exports.shared import shared_record
from kvbench.report.exports.trackers import SENDERS, send

from .records import two_arms, write_run
from .test_shared import leaks, machine, run  # noqa: F401 - fixtures

ITL = "cached-dynamic/itl_s"


def wants(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(name) is None, reason=f"wants {name}: pip install 'kvbench[{name}]'")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where every tracker keeps what it keeps."""
    folder = tmp_path / "kept"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WANDB_DATA_DIR", str(folder / "staging"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(folder / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (folder / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return folder


def itl(stored: StoredRun) -> str:
    """The name of a figure as trackers get it: of the second arm, whose parts tell a secret too."""
    return f"{trackers._distinct(shared_record(stored.record))[1]}/itl_s"


def everything_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_there_is_a_sender_for_every_choice():
    assert set(TRACKERS) == set(SENDERS)


class TestWhatIsSent:
    def test_parameters_and_figures_with_their_intervals(self, tmp_path):
        stored = write_run(two_arms(environment={"torch": "2.13.0"}), tmp_path / "run")
        sent = trackers._sent(stored, tmp_path / "sent")
        assert "2.13.0" == sent.parameters["torch"]
        assert stored.record.run_id == sent.parameters["run_id"]
        assert "folder" not in sent.parameters
        estimate = stored.record.arms[1].itl_s
        assert [estimate.value, estimate.ci_low, estimate.ci_high] == [
            sent.figures[f"{ITL}{end}"] for end in ("", "_ci_low", "_ci_high")
        ]
        assert 3.42 == sent.figures["cached-dynamic/speedup"]
        assert all(isinstance(each, (str, int, float, bool)) for each in sent.parameters.values())

    def test_without_a_canary(self, run, tmp_path):  # noqa: F811
        sent = trackers._sent(run, tmp_path / "sent")
        told = json.dumps([sent.name, dict(sent.parameters), dict(sent.figures), sent.table])
        assert [] == leaks(told.encode())
        assert [] == leaks(sent.report.read_bytes())


@wants("tensorboard")
def test_tensorboard(run, home):  # noqa: F811
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    place = Path(send(run, "tensorboard"))
    read = EventAccumulator(str(place)).Reload()
    (scalar,) = read.Scalars(itl(run))
    assert run.record.arms[1].itl_s.value == pytest.approx(scalar.value)
    assert read.Scalars(f"{itl(run)}_ci_low")
    (text,) = read.Tensors("report")
    assert b"| run |" in text.tensor_proto.string_val[0]
    (content,) = (read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content,)
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert run.record.run_id == told["run_id"].string_value
    assert (place / "report.html").is_file()
    assert [] == leaks(everything_in(place))
    assert not any(leaks(file.name.encode()) for file in place.iterdir())


@wants("trackio")
def test_trackio(run, home):  # noqa: F811
    import trackio

    where = send(run, "trackio")
    (told,) = trackio.Api().runs("kvbench")
    assert told.name in where
    assert run.record.run_id == told.config["run_id"]
    (metrics,) = trackio.SQLiteStorage.get_logs("kvbench", told.name)
    assert run.record.arms[1].itl_s.value == metrics[itl(run)]
    assert run.record.arms[1].itl_s.ci_low == metrics[f"{itl(run)}_ci_low"]
    content = everything_in(home)
    assert b"<!doctype html>" in content.lower()
    assert [] == leaks(content)


def log_records(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, as W&B keeps a run: blocks of 32 KiB, parts behind 7 bytes."""
    place, parts = 7, []  # behind the file's own header
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


@wants("wandb")
def test_wandb(run, home):  # noqa: F811
    from wandb.proto import wandb_internal_pb2

    assert "(offline)" in send(run, "wandb")
    (file,) = home.rglob("*.wandb")
    config, summary, artifacts = {}, {}, []
    for data in log_records(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        for each in (*record.run.config.update, *record.config.update):
            config[each.key or "/".join(each.nested_key)] = json.loads(each.value_json)
        for each in record.summary.update:
            summary[each.key or "/".join(each.nested_key)] = json.loads(each.value_json)
        if record.request.HasField("log_artifact") or record.HasField("artifact"):
            artifacts.append(record)
    assert run.record.run_id == config["run_id"]
    assert run.record.arms[1].itl_s.value == summary[itl(run)]
    assert run.record.arms[1].itl_s.ci_low == summary[f"{itl(run)}_ci_low"]
    assert artifacts
    staged = [each for each in (home / "staging").rglob("*") if each.is_file()]
    assert [] == leaks(b"".join(each.read_bytes() for each in (*staged, file)))
    kept = file.parent / "files"
    assert [] == leaks(everything_in(kept))


# Its sqlite, which is what it uses unless told otherwise, takes half a minute to be made.
@wants("mlflow")
@pytest.mark.parametrize("store", ["a folder", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_mlflow(run, home, store, monkeypatch):  # noqa: F811
    from mlflow import MlflowClient

    if store == "sqlite":
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
    send(run, "mlflow")
    client = MlflowClient()
    (experiment,) = [each for each in client.search_experiments() if each.name == "kvbench"]
    (told,) = client.search_runs([experiment.experiment_id])
    assert "FINISHED" == told.info.status
    assert run.record.run_id == told.data.params["run_id"]
    assert run.record.arms[1].itl_s.value == told.data.metrics[itl(run)]
    assert run.record.arms[1].itl_s.ci_low == told.data.metrics[f"{itl(run)}_ci_low"]
    assert ["report.html"] == [each.path for each in client.list_artifacts(told.info.run_id)]
    assert {"mlflow.runName"} == set(told.data.tags)
    assert [] == leaks(everything_in(home))


class TestARunThatIsSent:
    def test_ends_as_it_would_when_the_tracker_fails(self, run_kvbench, monkeypatch, tmp_path):
        def fails(*_):
            raise RuntimeError("no route to\nhost /home/ada/x")

        monkeypatch.setitem(SENDERS, "tensorboard", fails)
        monkeypatch.setattr("kvbench.readiness.is_installed", lambda _: True)
        short = ("model=scripted", "launch=inline", "report=false", "workload.new_tokens=4", "track=tensorboard")
        code, _, err = run_kvbench(*short)
        assert (
            0,
            "kvbench: not sent to tensorboard: no route to host [path]; the run and its record are complete\n",
        ) == (code, err)
        assert 1 == len(list(tmp_path.rglob("run.json")))

    def test_is_refused_before_it_is_measured_where_the_package_is_missing(self, run_kvbench, monkeypatch, tmp_path):
        monkeypatch.setattr("kvbench.readiness.is_installed", lambda _: False)
        code, _, err = run_kvbench("model=scripted", "launch=inline", "track=mlflow")
        assert 2 == code
        assert f"track=mlflow needs the package mlflow, which is not installed: {install_hint('mlflow')}" in err
        assert not list(tmp_path.rglob("run.json"))

    def test_is_told_in_one_line_with_its_place_and_each_point_of_a_sweep_is(self, run_kvbench, monkeypatch):
        told = []
        monkeypatch.setitem(SENDERS, "tensorboard", lambda sent, folder: told.append(sent.run_id) or "over there")
        monkeypatch.setattr("kvbench.readiness.is_installed", lambda _: True)
        short = ("model=scripted", "launch=inline", "report=false", "workload.new_tokens=4", "track=tensorboard")
        code, out, _ = run_kvbench("-m", *short, "mode=cached,nocache")
        assert (0, 2) == (code, out.count("sent to tensorboard: over there"))
        assert 2 == len(set(told))

    def test_is_not_measured_again_because_another_tracker_is_named(self, run_kvbench, monkeypatch, tmp_path):
        monkeypatch.setitem(SENDERS, "wandb", lambda *_: "over there")
        monkeypatch.setattr("kvbench.readiness.is_installed", lambda _: True)
        short = ("model=scripted", "launch=inline", "report=false", "workload.new_tokens=4", "resume=true")
        run_kvbench(*short)
        _, out, _ = run_kvbench(*short, "track=wandb")
        assert "measured before" in out
        assert 1 == len(list(tmp_path.rglob("run.json")))
