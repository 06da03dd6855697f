"""A run folder that somebody sent runs no code, reads and writes nowhere else, and costs no other run its report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from runs import SCRIPTED

from kvbench.records.store import BLOCKS, CONFIG, PROMPTS, RECORD, STEPS, RunRecord

Run = Callable[..., tuple[int, str, str]]
Sent = Callable[..., Path]
SMALL = (*SCRIPTED, "workload.prompt_tokens=8", "workload.new_tokens=4")
SECRET = "canary-4711"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run folder, measured once."""
    from kvbench.__main__ import main

    results = tmp_path_factory.mktemp("whole")
    assert 0 == main([*SMALL, f"results_dir={results}"])
    (record,) = results.rglob(RECORD)
    return record.parent


@pytest.fixture
def sent(whole: Path, tmp_path: Path) -> Sent:
    """A copy of the sound run whose config.yaml says something else, by dotted key."""

    def copy(**changes: Any) -> Path:
        folder = tmp_path / "sent"
        shutil.copytree(whole, folder)
        config = yaml.safe_load((folder / CONFIG).read_text())
        config["results_dir"] = "results"
        for key, value in changes.items():
            *way, last = key.split("__")
            at = config
            for name in way:
                at = at[name]
            at[last] = value
        (folder / CONFIG).write_text(yaml.safe_dump(config))
        return folder

    return copy


OWNED = {"model__weights": "python", "model__target": "os:system", "mode": "nocache"}


class TestAConfigurationThatWasSent:
    def test_runs_no_command(self, sent: Sent, run_kvbench: Run, tmp_path: Path) -> None:
        folder = sent(**OWNED, model__options={"command": f"touch {tmp_path / 'owned'}"})
        code, _, err = run_kvbench("--config-path", str(folder))
        assert (2, False) == (code, (tmp_path / "owned").exists())
        assert f"{folder / CONFIG}: sets model.target=os:system, model.options.command=" in err
        assert "repeat these keys on the command line" in err

    def test_runs_what_the_command_line_says_too_and_no_more(self, sent: Sent, run_kvbench: Run) -> None:
        folder = sent(**OWNED, model__options={"command": "true"})
        _, _, err = run_kvbench("--config-path", str(folder), "model.target=os:system")
        assert "sets model.options.command=true" in err
        assert "model.target" not in err
        both = ("model.target=os:system", "model.options={command: 'true'}", "--cfg", "job")
        assert 0 == run_kvbench("--config-path", str(folder), *both)[0]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("model__trust_remote_code", True),
            ("model__path", "/somewhere/else"),
            ("workload__prompts", "/etc/passwd"),
            ("results_dir", "/elsewhere"),
            ("track", "wandb"),
        ],
    )
    def test_chooses_no_code_no_file_and_no_place(self, sent: Sent, run_kvbench: Run, key: str, value: Any) -> None:
        weights = {"model__weights": "path", "model__path": "/x"} if key.startswith("model") else {}
        tokens = {"workload__prompt_tokens": None} if key == "workload__prompts" else {}
        folder = sent(**weights | tokens | {key: value})
        code, _, err = run_kvbench("--config-path", str(folder))
        assert 2 == code
        assert f"{key.replace('__', '.')}={value}" in err

    @pytest.mark.parametrize("asked", ["${oc.env:CANARY}", "x ${${name}:CANARY}", "${oc.decode:${oc.env:CANARY}}"])
    def test_does_not_look_into_the_environment(
        self, sent: Sent, run_kvbench: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str
    ) -> None:
        monkeypatch.setenv("CANARY", SECRET)
        folder = sent(workload__prompt=asked, workload__prompt_tokens=None, name="oc.env")
        code, out, err = run_kvbench("--config-path", str(folder))
        assert (2, False) == (code, SECRET in out + err)
        assert "may not look into this machine's environment" in err

    def test_may_hold_a_text_that_only_looks_so(self, sent: Sent, run_kvbench: Run) -> None:
        folder = sent(workload__prompt="\\${oc.env:CANARY}", workload__prompt_tokens=None)
        code, out, _ = run_kvbench("--config-path", str(folder), "--cfg", "job")
        assert (0, True) == (code, "oc.env:CANARY" in out)

    @pytest.mark.parametrize("name", ["..", "../up", "a/b", "x\0y"])
    def test_writes_only_below_results_dir(self, sent: Sent, run_kvbench: Run, name: str) -> None:
        for key in ("name", "model__name"):
            folder = sent(**{key: name})
            code, _, err = run_kvbench("--config-path", str(folder))
            assert (2, 1) == (code, len(err.splitlines())), err
            shutil.rmtree(folder)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("x: &a [*a]\n", "uses a YAML alias"),
            ("".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" if n else "a0: &a0 [1]\n" for n in range(40)), "alias"),
            (f"x: {'[' * 3000}{']' * 3000}\n", "nested deeper"),
            ("hydra: {callbacks: {x: {_target_: os.system}}}\n", "hydra.callbacks"),
            ("defaults: ['../x@model.architecture']\n", "lead out of its folder (../x)"),
            ("\ud800", "not UTF-8"),
        ],
        ids=["a circle", "a bomb", "depth", "a callback", "another file", "no text"],
    )
    def test_that_is_no_configuration_is_one_line(self, sent: Sent, run_kvbench: Run, text: str, said: str) -> None:
        folder = sent()
        (folder / CONFIG).write_bytes(text.encode(errors="surrogatepass"))
        code, _, err = run_kvbench("--config-path", str(folder), "--cfg", "job")
        assert (2, 1) == (code, len(err.splitlines())), err
        assert said in err

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("defaults: ['/../outside/x']\n", "the defaults of its files lead out of it (../outside/x)"),
            ("a: &a [1]\nb: *a\n", "evil.yaml: uses a YAML alias"),
            ("# @package _global_\nmodel: {weights: python, target: 'os:system'}\n", "sets model.target=os:system"),
        ],
        ids=["another file", "an alias", "code"],
    )
    def test_may_do_no_more_through_the_files_that_its_defaults_name(
        self, sent: Sent, run_kvbench: Run, tmp_path: Path, text: str, said: str
    ) -> None:
        """A group's file beside a sent configuration was read without a look at it, and led to any file there is."""
        folder = sent()
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "x.yaml").write_text(f"# @package _global_\nworkload: {{prompt: {SECRET}}}\n")
        (folder / "model").mkdir()
        (folder / "model" / "evil.yaml").write_text(text)
        (folder / CONFIG).write_text("defaults: [schema, {model: evil}, _self_]\n")
        for asked in (("--config-path", str(folder)), ("--config-dir", str(folder), "model=evil")):
            code, out, err = run_kvbench(*asked, "--cfg", "job")
            assert (2, 1, False) == (code, len(err.splitlines()), SECRET in out + err), err
            assert said in err

    def test_of_a_run_of_ones_own_still_repeats_it(self, sent: Sent, run_kvbench: Run) -> None:
        assert 0 == run_kvbench("--config-path", str(sent()), "report=false")[0]


def test_a_directory_of_ones_own_models_is_trusted_when_the_command_line_names_the_model(
    run_kvbench: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "own.yaml").write_text(
        "name: own\nweights: path\npath: /x\ntrust_remote_code: true\n"
    )
    asked = ("--config-dir", "mine", "model=own", "--cfg", "job")
    assert (0, "") == run_kvbench(*asked)[::2]
    (tmp_path / "mine" / RECORD).write_text("{}")  # unless it is a run folder
    code, _, err = run_kvbench(*asked)
    assert (2, True) == (code, "model.trust_remote_code=True" in err)


@pytest.mark.parametrize(
    "override",
    [
        "model.id=https://me:s3cretword@huggingface.co/a/b",
        "model.revision=hf_abcdefghijklmnopqrstuvwxyz0123",
        "model.options={api_key: canary-4711}",
    ],
)
def test_a_secret_is_refused_and_not_told_again(run_kvbench: Run, tmp_path: Path, override: str) -> None:
    source = ("model=python", "model.target=a:b") if "options" in override else ("model=hub", "model.id=a/b")
    code, out, err = run_kvbench("-m", *source, override, "mode=cached")
    assert 2 == code
    assert not any(secret in out + err for secret in ("s3cretword", "hf_abcdef", SECRET))
    assert [] == list(tmp_path.iterdir())


class TestARunFolderThatWasSent:
    @pytest.fixture
    def beside(self, whole: Path, tmp_path: Path) -> Path:
        """The folder to break, beside a sound one."""
        shutil.copytree(whole, tmp_path / "runs" / "good")
        shutil.copytree(whole, tmp_path / "runs" / "sent")
        return tmp_path / "runs" / "sent"

    @pytest.mark.parametrize("line", ["{}", "null", "3", "[]", "[" * 100_000, "9" * 5000, '{"index": -1}', "\x1b[31m"])
    def test_with_a_line_that_is_no_block_is_named_and_reported(
        self, beside: Path, run_kvbench: Run, line: str
    ) -> None:
        blocks = (beside / BLOCKS).read_text().splitlines()
        (beside / BLOCKS).write_text("\n".join([*blocks[:3], line, *blocks[3:]]) + "\n")
        code, out, err = run_kvbench("export", "runs", "--format", "pytest-benchmark")
        assert (2, 1) == (code, len(err.splitlines()))
        assert f"kvbench: skipped runs/sent/{BLOCKS}: line 4 is no block" in err
        rounds = [each["stats"]["rounds"] for each in json.loads(out)["benchmarks"]]
        assert [len(blocks)] * 4 == rounds  # no block after the line is lost

    @pytest.mark.parametrize(
        "broken",
        [
            lambda table: table.drop_columns(["arm"]),
            lambda table: table.set_column(6, "latency_s", pyarrow.array([None] * table.num_rows, pyarrow.float64())),
            lambda table: table.set_column(6, "latency_s", pyarrow.array([float("nan")] * table.num_rows)),
            lambda table: table.set_column(6, "latency_s", pyarrow.array([-1.0] * table.num_rows)),
            lambda table: table.set_column(1, "arm", pyarrow.array(["x"] * table.num_rows)),
        ],
        ids=["no column", "nulls", "nan", "negative", "texts"],
    )
    def test_with_another_table_is_named_and_reported(
        self, beside: Path, run_kvbench: Run, broken: Callable[[Any], Any]
    ) -> None:
        pyarrow.parquet.write_table(broken(pyarrow.parquet.read_table(beside / STEPS)), beside / STEPS)
        (beside / PROMPTS).write_text("[" * 100_000)
        code, _, err = run_kvbench("report", "runs", "--output", "page.html")
        assert 2 == code
        assert [STEPS, PROMPTS] == [
            line.partition(": ")[2].split("/")[-1].partition(":")[0] for line in err.splitlines()
        ]
        assert STEPS in Path("page.html").read_text()

    @pytest.mark.parametrize(
        ("pointer", "value"),
        [
            ("comparisons/0/candidate_arm", -2),
            ("comparisons/0/candidate_arm", 7),
            ("shapes", {"prefill": 3}),
            ("shapes", {"prefill": {"logits": {"bytes": 1}}}),
            ("environment", {"cpu": {"a": 1}}),
            ("environment", {"deep": json.loads("[" * 60 + "]" * 60)}),
            ("model/parameters", 10**400),
            ("arms/0/memory/kv_cache_bytes", 2**63),
            ("arms/0/ttft_s/value", 1e308),
            ("config/interrupt", "x"),
            ("a\nkvbench: all is well", 1),
        ],
    )
    def test_with_a_record_that_no_run_writes_is_named_in_one_line(
        self, beside: Path, run_kvbench: Run, pointer: str, value: Any
    ) -> None:
        data = json.loads((beside / RECORD).read_text())
        at: Any = data
        *way, last = pointer.split("/")
        for name in way:
            at = at[int(name) if isinstance(at, list) else name]
        at[last] = value
        (beside / RECORD).write_text(json.dumps(data))
        code, out, err = run_kvbench("show", "runs", "--json")
        assert (2, 1) == (code, len(json.loads(out)))
        assert (1, True) == (len(err.splitlines()), err.startswith(f"kvbench: skipped runs/sent/{RECORD}: field "))

    def test_whose_record_is_a_pipe_or_a_device_is_named_and_not_waited_for(
        self, beside: Path, run_kvbench: Run
    ) -> None:
        (beside / RECORD).unlink()
        os.mkfifo(beside / RECORD)
        shutil.copytree(beside.parent / "good", beside.parent / "zero")
        (beside.parent / "zero" / RECORD).unlink()
        (beside.parent / "zero" / RECORD).symlink_to("/dev/zero")
        code, _, err = run_kvbench("show", "runs")
        assert 2 == code
        assert [True, True] == [line.endswith(f"{RECORD}: not an ordinary file") for line in err.splitlines()]

    def test_obeys_nothing_in_a_terminal(self, beside: Path, run_kvbench: Run) -> None:
        """In the stream that a terminal gets: no control character but the line's end."""
        text = (beside / RECORD).read_text()
        for attack in ("\x1b]0;owned\x07", "\x9b31m", "\u202e", "\x07"):
            data = json.loads(text)
            _plant(data, attack)
            RunRecord.model_validate_json(json.dumps(data))  # a record that is read, or the test would show nothing
            (beside / RECORD).write_text(json.dumps(data))
            for words in (("show", str(beside)), ("show", "runs"), ("show", str(beside), "--shapes")):
                _, out, err = run_kvbench(*words)
                assert set() == {each for each in out + err if not each.isprintable() and each != "\n"}, words


FIXED = ("status", "verdict", "created_at", "name", "bound", "axis", "ending", "form")


def _plant(value: Any, attack: str) -> None:
    """Attack every text of a record that is no word of ours."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if isinstance(item, str) and key not in FIXED and not (isinstance(key, str) and key.endswith("_key")):
            value[key] = f"{attack}{item}"
        elif isinstance(item, (dict, list)):
            _plant(item, attack)


def test_a_folder_that_may_not_be_entered_is_named(tmp_path: Path, whole: Path) -> None:
    """Root may enter every folder, so the walk itself is refused here."""
    shutil.copytree(whole, tmp_path / "runs" / "good")
    closed = tmp_path / "runs" / "closed"
    closed.mkdir()
    from kvbench.records import store

    def refuse(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Any:
        if onerror is not None:
            onerror(PermissionError(13, "Permission denied", str(closed)))
        return walk(folder)

    walk = os.walk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.os, "walk", refuse)
        found = store.find_runs([tmp_path / "runs"])
    assert [(closed, "cannot read (Permission denied)")] == [(each.path, each.reason) for each in found.unreadable]
    assert 1 == len(found.runs)


@pytest.mark.parametrize(("count", "seed"), [(15, 4711), pytest.param(300, 17, marks=pytest.mark.slow)])
def test_changed_folders_are_read_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, seed: int
) -> None:
    # Here, for hypothesis takes seconds to import, and only one process of several comes here.
    from fuzzed_folders import cases, runner
    from fuzzing import fuzz

    monkeypatch.chdir(tmp_path)
    counts = fuzz(cases(), runner(tmp_path), count, seed)
    assert {} == counts.faults, counts.table()
    assert counts.cases >= count // 2


def test_the_fuzzer_sees_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fuzzer that cannot fail is none: with a reader that raises, it says where."""
    from fuzzed_folders import runner
    from fuzzing import Counts

    from kvbench.report import console

    monkeypatch.chdir(tmp_path)
    read = runner(tmp_path)
    monkeypatch.setattr(console, "runs_table", lambda rows: 1 // 0)
    counts = Counts()
    read(["both", [[PROMPTS, "cut", [0], None]], ["show"]], counts)
    (fault,) = counts.faults
    assert fault.startswith("show: ZeroDivisionError at ")


def test_python_itself_runs_none_of_it(whole: Path, tmp_path: Path) -> None:
    """The same from the shell, in a process of its own."""
    folder = tmp_path / "sent"
    shutil.copytree(whole, folder)
    config = yaml.safe_load((folder / CONFIG).read_text())
    config["model"] |= {
        "weights": "python",
        "target": "os:system",
        "options": {"command": f"touch {tmp_path / 'owned'}"},
    }
    (folder / CONFIG).write_text(yaml.safe_dump(config))
    ended = subprocess.run(
        [sys.executable, "-m", "kvbench", "--config-path", str(folder)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (2, "", 1) == (ended.returncode, ended.stdout, len(ended.stderr.splitlines()))
    assert not (tmp_path / "owned").exists()
