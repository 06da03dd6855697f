"""What may leave this machine: nothing of what was written, and no name, place or secret, by push or by a tracker."""

from __future__ import annotations

import io
import json
import re
import socket

import pyarrow
import pyarrow.parquet
import pytest

from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun, read_blocks, read_steps
from kvbench.report import redaction
from kvbench.report.exports.dataset import stage
from kvbench.report.exports.formats import export
from kvbench.report.exports.shared import write_shared
from kvbench.report.redaction import redacted_run

from .records import comparison, two_arms, write_run

HOST, USER = "build-box-17", "ada.lovelace"
HUB_TOKEN = "hf_" + "canary" * 6
API_KEY = "0123canary" * 4  # such as that of W&B: nothing in its form tells that it is one
PASSWORD = "s3cret-canary"
PLACE = f"/home/{USER}/models/gemma"
WRITTEN = "what the canary sang"
PLANTED = f"{PLACE} on {HOST} for {USER} with {HUB_TOKEN} and {API_KEY} at https://me:{PASSWORD}@example.org/x"
CANARIES = (HOST, USER, HUB_TOKEN, API_KEY, PASSWORD, "models/gemma", WRITTEN, "424242")
KEPT = ("status", "verdict", "mode", "cache", "created_at", "evidence", "run_id", "engine", "attention")


def leaks(content: bytes) -> list[str]:
    """The canaries in a file, also in their other spellings there: as JSON and in UTF-16."""
    return [each for each in CANARIES if each.encode() in content or each.encode("utf-16-le") in content]


def planted(value, key=""):
    if isinstance(value, dict):
        return {name: planted(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [planted(item, key) for item in value]
    if key == "texts":
        return f"{WRITTEN} {PLANTED}"
    return PLANTED if isinstance(value, str) and key not in KEPT else value


@pytest.fixture
def machine(monkeypatch):
    """This machine is the one that the canaries tell of."""
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setenv("LOGNAME", USER)
    monkeypatch.setenv("HF_TOKEN", HUB_TOKEN)
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    for kept in (redaction._this_machine, redaction._secrets_here):
        kept.cache_clear()
    yield
    for kept in (redaction._this_machine, redaction._secrets_here):
        kept.cache_clear()


@pytest.fixture
def run(machine, tmp_path) -> StoredRun:
    """A run in whose folder everything that is text tells a secret."""
    sentence = {"code": "x", "text": "said", "evidence": ["/arms/0"]}
    data = planted(json.loads(two_arms(pair=comparison(diagnosis=[sentence], reasons=["why"])).model_dump_json()))
    data["config"]["workload"] |= {"prompt": WRITTEN, "prompts": PLACE}
    data["config"]["interrupt"] = {"message": WRITTEN}
    data["environment"] |= {"hostname": HOST, "user": USER}
    for arm in data["arms"]:
        arm["tokens"] = [[424242]]
    run = write_run(RunRecord.model_validate_json(json.dumps(data)), tmp_path / HOST / "run", prompts=[WRITTEN])
    folder = run.folder
    (folder / "stdout.log").write_text(PLANTED)
    (folder / "config.yaml").write_text(PLANTED)
    blocks = (folder / "blocks.jsonl").read_text().splitlines()
    told = [json.dumps({**json.loads(line), "note": PLANTED, "throttled": [PLANTED]}) for line in blocks]
    (folder / "blocks.jsonl").write_text("\n".join(told) + "\n")
    steps = pyarrow.parquet.read_table(folder / "steps.parquet")
    if "lane" in steps.column_names:
        steps = steps.drop_columns(["lane"])
    said = {"lane": ["trace", *["steps"] * (steps.num_rows - 1)], "run_id": [PLANTED] * steps.num_rows}
    said["token_text"] = [WRITTEN] * steps.num_rows
    for name, values in said.items():
        steps = steps.append_column(name, pyarrow.array(values))
    steps = steps.replace_schema_metadata({"pandas": PLANTED})
    pyarrow.parquet.write_table(steps, folder / "steps.parquet", compression="none", use_dictionary=False)
    return run


def test_every_canary_is_in_the_run_itself(run):
    content = b"".join(file.read_bytes() for file in run.folder.iterdir())
    assert [*CANARIES] == leaks(content)


def test_a_shared_folder_has_no_canary(run, tmp_path):
    shared = write_shared(run, tmp_path / "shared")
    assert {"run.json", "blocks.jsonl", "steps.parquet"} == {file.name for file in shared.folder.iterdir()}
    for file in shared.folder.iterdir():
        assert [] == leaks(file.read_bytes()), file.name
    table = read_steps(shared.folder)
    assert table is not None
    assert [] == leaks(repr(table.to_pydict()).encode())


def test_a_shared_folder_is_a_run_folder_with_every_figure(run, tmp_path):
    shared = write_shared(run, tmp_path / "shared")
    for mine, theirs in zip(run.record.arms, shared.record.arms, strict=True):
        assert ((), ()) == (theirs.texts, theirs.tokens)
        assert (mine.itl_s.ci_low, mine.memory, mine.energy) == (theirs.itl_s.ci_low, theirs.memory, theirs.energy)
    assert len(read_blocks(run.folder)) == len(read_blocks(shared.folder)) > 0
    mine, theirs = read_steps(run.folder), read_steps(shared.folder)
    assert mine is not None
    assert theirs is not None
    assert mine["latency_s"].to_pylist()[1:] == theirs["latency_s"].to_pylist()  # the first is of the trace
    assert {shared.record.run_id} == set(theirs["run_id"].to_pylist())


def test_the_files_of_a_data_set_have_no_canary_and_say_how_much_was_replaced(run, tmp_path):
    staged = stage([run], tmp_path / "staged")
    paths = [path for path, _ in staged.files()]
    assert [
        "README.md",
        f"arms/{run.record.run_id}.parquet",
        *(f"runs/{run.record.run_id}/{name}" for name in ("blocks.jsonl", "run.json", "steps.parquet")),
    ] == paths
    for path in paths:
        content = (tmp_path / "staged" / path).read_bytes()
        if path.endswith(".parquet"):
            content += repr(pyarrow.parquet.read_table(tmp_path / "staged" / path).to_pydict()).encode()
        assert [] == leaks(content), path
    assert {"[host]", "[user]", "[path]", "[secret]"} == {name for name, count in staged.replaced.items() if count}


@pytest.mark.parametrize("run_id", ["../../x", "a/b", "", "C:\\x", HOST, "x" * 300, ".hidden"])
def test_no_run_id_is_a_way_out_of_the_folder(machine, tmp_path, run_id):
    run = write_run(two_arms(run_id=run_id), tmp_path / "run")
    staged = stage([run, run], tmp_path / "staged")
    names = {path.split("/")[1].removesuffix(".parquet") for path, _ in staged.files() if "/" in path}
    assert all(re.fullmatch(r"[0-9a-f]{16}", name) for name in names)


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_redacted_export_tells_no_folder_and_no_secret_either(run, form):
    content = export([redacted_run(run)], form)
    if form == "parquet":
        content += repr(pyarrow.parquet.read_table(io.BytesIO(content)).to_pydict()).encode()
    # Generated texts stay in the records, whatever they speak of; a secret does not.
    forbidden = {HUB_TOKEN, API_KEY, PASSWORD} if form == "json" else {*CANARIES}
    assert set() == forbidden & set(leaks(content))
