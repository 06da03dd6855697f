"""The exit code says how a run ended, and bad input is answered in one line with nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.errors import PromptError
from kvbench.records.store import RECORD, REPORT
from kvbench.running.scripted import ScriptedBackend

Run = Callable[..., tuple[int, str, str]]

QUICK = ("model=scripted", "report=false", "workload.prompt_tokens=5", "workload.new_tokens=4", "measure.warmup=0")
INLINE = (*QUICK, "launch=inline")


def only_record(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob(RECORD)
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def the_line(err: str) -> str:
    """What stands on stderr, which is one line of ours."""
    assert 1 == err.count("\n")
    assert err.startswith("kvbench: ")
    return err


class TestAValidRun:
    @pytest.mark.parametrize("mode", ["both", "nocache", "cached", "generate"])
    def test_exits_with_0_and_leaves_stderr_empty(self, run_kvbench: Run, tmp_path: Path, mode: str) -> None:
        code, out, err = run_kvbench(*INLINE, f"mode={mode}")
        assert (0, "") == (code, err)
        assert "ok" == only_record(tmp_path / "results")["status"]
        assert "VALID" in out
        assert "INVALID" not in out

    def test_names_its_report(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, out, _ = run_kvbench(*INLINE, "report=true", "results_dir=r")
        (report,) = (tmp_path / "r").rglob(REPORT)
        assert 0 == code
        assert out.splitlines()[-1] == f"report: {report.absolute().as_uri()}"


class TestARunThatFails:
    @pytest.mark.parametrize(
        ("fail_with", "status", "reason"),
        [("error", "failed", "scripted failure at step 20"), ("oom", "oom", "scripted out-of-memory at step 20")],
    )
    @pytest.mark.parametrize("launch", ["inline", "worker"])
    def test_exits_with_1_and_records_how(
        self, run_kvbench: Run, tmp_path: Path, launch: str, fail_with: str, status: str, reason: str
    ) -> None:
        failing = ("model.fail_at_step=20", f"model.fail_with={fail_with}")
        code, out, err = run_kvbench(*QUICK, f"launch={launch}", *failing)
        run = only_record(tmp_path / "results")
        assert (1, status, reason) == (code, run["status"], run["status_reason"])
        assert reason in out
        assert "Traceback" not in out + err

    def test_that_loses_its_worker_is_crashed_and_names_the_exit_code(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, out, err = run_kvbench(*QUICK, "model.fail_at_step=20", "model.fail_with=crash")
        run = only_record(tmp_path / "results")
        assert (1, "crashed") == (code, run["status"])
        assert "exit code 70" in run["status_reason"]
        assert "Traceback" not in out + err

    def test_of_an_unforeseen_error_names_its_class(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ScriptedBackend, "step", lambda *arguments: 1 // 0)
        code, _, err = run_kvbench(*INLINE)
        run = only_record(tmp_path / "results")
        assert (1, "failed") == (code, run["status"])
        assert run["status_reason"].startswith("ZeroDivisionError: ")
        assert "Traceback" not in err

    def test_points_to_a_traceback_that_is_there(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ScriptedBackend, "step", lambda *arguments: 1 // 0)
        run_kvbench(*INLINE)
        (log,) = (tmp_path / "results").rglob("stdout.log")
        assert "traceback in stdout.log" in only_record(tmp_path / "results")["status_reason"]
        assert "Traceback (most recent call last)" in log.read_text()

    def test_because_every_sequence_ends_at_once_says_so_instead_of_dividing_by_zero(
        self, run_kvbench: Run, tmp_path: Path
    ) -> None:
        stop = ord("a") + 5  # what the script writes first after a prompt of 5
        run_kvbench(*INLINE, f"workload.stop=[{stop}]", "measure.stopping=precision", "measure.max_blocks=9")
        assert "ZeroDivisionError" not in only_record(tmp_path / "results")["status_reason"]


class TestAnInvalidRun:
    def test_exits_with_3_and_says_what_to_change(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, out, err = run_kvbench(*INLINE, "measure.blocks=4")
        run = only_record(tmp_path / "results")
        assert (3, "invalid", "") == (code, run["status"], err)
        assert ["blocks"] == [check["name"] for check in run["checks"] if not check["passed"]]
        assert "raise measure.blocks to 5" in out.replace("\n", " ")


BAD_CONFIGURATIONS = [
    (["model=nosuch"], "model=nosuch", "allowed: "),
    (["mode=fast"], "mode=fast", "allowed: "),
    (["workload=nosuch"], "workload=nosuch", "allowed: "),
    (["workload.new_token=5"], "workload.new_token", "did you mean workload.new_tokens=5?"),
    (["zzzzzz=5"], "zzzzzz", "--help"),
    (["workload.new_tokens=1"], "workload.new_tokens=1", "at least 2"),
    (["workload.prompt_tokens=0"], "workload.prompt_tokens=0", "at least 1"),
    (["workload.prompt_tokens=-3"], "workload.prompt_tokens=-3", "at least 1"),
    (["workload.batch_size=0"], "workload.batch_size=0", "at least 1"),
    (["workload.new_tokens=many"], "workload.new_tokens=many", "integer"),
    (["measure.blocks=0"], "measure.blocks=0", "at least 1"),
    (["measure.budget_s=nan"], "measure.budget_s=nan", "finite"),
    (["sampling.temperature=-1"], "sampling.temperature=-1", "at least 0"),
    (["device=gpu"], "device=gpu", "allowed: "),
    (["launch=thread"], "launch=thread", "allowed: "),
    (["arms=[]"], "arms=[]", "mode: cached"),
    (["arms=[{mode: nocache, cache: dynamic}]"], "arms[0].cache=dynamic", "has no effect"),
    (["name=a/b"], "name=a/b", "single folder name"),
    (["experiment=[1,[2,{a: 3}]]"], "experiment=[1,[2,{a: 3}]]", "the name of one of its files"),
    (["++scaling.lengths=[1,[2,{a: 3}]]"], "scaling.lengths=", "a list of single values"),
    (["stream.interval=18446744073709551616"], "stream.interval=18446744073709551616", "64 bits"),
    (["workload.prompts=p.txt", "workload.prompt_tokens=5"], "workload.prompts=p.txt", "give one of them"),
    (["mode=cached", "measure.stopping=precision"], "measure.stopping=precision", "two arms"),
    (["workload.stop=never"], "workload.stop=never", "allowed: "),
    (["not an override"], "'not an override'", "key=value"),
    (["mode=cached,nocache"], "mode=cached,nocache", "-m"),
    (["--nosuch"], "--nosuch", "--help"),
    (["--config-dir", "nowhere"], "--config-dir nowhere", "no such folder"),
    (["--config-dir", "a" * 300], "--config-dir aaa", "no such folder"),
    (["hydra.searchpath=[" + "a" * 300 + "]"], "hydra.searchpath: aaa", "no such folder"),
]


class TestBadInput:
    @pytest.mark.parametrize(("overrides", "named", "remedy"), BAD_CONFIGURATIONS, ids=lambda value: str(value)[:40])
    def test_exits_with_2_in_one_line_that_names_the_key_and_the_remedy(
        self, run_kvbench: Run, tmp_path: Path, overrides: list[str], named: str, remedy: str
    ) -> None:
        first = [] if overrides[0].startswith("model=") else ["model=scripted"]
        code, out, err = run_kvbench(*first, "launch=inline", *overrides)
        assert (2, "") == (code, out)
        line = the_line(err)
        assert named in line
        assert remedy in line
        assert [] == list(tmp_path.iterdir())

    def test_found_by_the_worker_leaves_no_folder_either(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(backend: ScriptedBackend, plan: object) -> None:
            raise PromptError("prompt 1 has 9 tokens, this reads at most 8: shorten it")

        monkeypatch.setattr(ScriptedBackend, "session", refuse)
        code, _, err = run_kvbench(*INLINE, "results_dir=deep/results")
        assert 2 == code
        assert "shorten it" in the_line(err)
        assert [] == [path for path in tmp_path.rglob("*") if path.name != "deep"]

    def test_leaves_the_runs_of_others_alone(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert 0 == run_kvbench(*INLINE)[0]
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(ScriptedBackend, "session", _refuse)
        assert 2 == run_kvbench(*INLINE)[0]
        assert before == sorted(tmp_path.rglob("*"))

    @pytest.mark.parametrize("results_dir", ["mine", "."])
    def test_leaves_an_empty_results_folder_that_was_there_before(
        self, run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results_dir: str
    ) -> None:
        folder = tmp_path / results_dir
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(ScriptedBackend, "session", _refuse)
        assert 2 == run_kvbench(*INLINE, f"results_dir={results_dir}")[0]
        assert folder.is_dir()
        assert [] == list(folder.iterdir())

    def test_of_a_model_folder_that_is_missing_names_it(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, err = run_kvbench("model=path", "model.path=nowhere", "launch=inline")
        assert 2 == code
        assert "model.path=nowhere" in the_line(err)
        assert [] == list(tmp_path.iterdir())

    def test_takes_options_between_overrides(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, out, err = run_kvbench("model=scripted", "--cfg", "job", "mode=cached")
        assert (0, "") == (code, err)
        assert "mode: cached" in out


def _refuse(backend: ScriptedBackend, plan: object) -> None:
    raise PromptError("prompt 1 is too long: shorten it")


class TestACommandThatDoesNotExist:
    @pytest.mark.parametrize("word", ["reprot", "measure", "./results"])
    def test_exits_with_2_and_lists_those_that_do(self, run_kvbench: Run, tmp_path: Path, word: str) -> None:
        code, out, err = run_kvbench(word)
        assert (2, "") == (code, out)
        line = the_line(err)
        assert f"{word}: no such command" in line
        assert "report, compare, show, export, query, push, explain, watch, rescore, doctor, help" in line


READERS = [["show"], ["report"], ["export", "--format", "csv"], ["push", "a/b"]]


class TestASubcommand:
    @pytest.mark.parametrize("arguments", READERS, ids=lambda a: a[0])
    def test_of_a_missing_path_exits_with_2_and_names_it(
        self, run_kvbench: Run, tmp_path: Path, arguments: list[str]
    ) -> None:
        code, out, err = run_kvbench(*arguments, "nowhere")
        assert (2, "") == (code, out)
        assert "nowhere: no such file or folder" in the_line(err)
        assert [] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("arguments", READERS, ids=lambda a: a[0])
    def test_of_a_folder_without_runs_exits_with_2_and_names_it(
        self, run_kvbench: Run, tmp_path: Path, arguments: list[str]
    ) -> None:
        (tmp_path / "empty").mkdir()
        code, out, err = run_kvbench(*arguments, "empty")
        assert (2, "") == (code, out)
        assert "empty: no runs yet; measure one with `python -m kvbench`" in the_line(err)
        assert [] == list((tmp_path / "empty").iterdir())

    @pytest.mark.parametrize(
        "arguments",
        [["compare"], ["compare", "x"], ["export", "x"], ["export", "x", "--format", "xls"], ["show", "x", "--nosuch"]],
    )
    def test_called_wrongly_exits_with_2_in_one_line(
        self, run_kvbench: Run, tmp_path: Path, arguments: list[str]
    ) -> None:
        code, out, err = run_kvbench(*arguments)
        assert (2, "") == (code, out)
        assert "--help" in the_line(err)


@pytest.mark.parametrize("arguments", [["--help"], ["help"], ["--version"], ["model=scripted", "-h"]])
def test_help_exits_with_0(run_kvbench: Run, tmp_path: Path, arguments: list[str]) -> None:
    code, out, err = run_kvbench(*arguments)
    assert (0, "") == (code, err)
    assert out
    assert [] == list(tmp_path.iterdir())


class TestStandardOutput:
    def test_in_an_encoding_without_our_characters_does_not_end_a_run(self, tmp_path: Path) -> None:
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        command = [sys.executable, "-m", "kvbench", *INLINE]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (0, "") == (ended.returncode, ended.stderr)
        assert 1 == len(list(tmp_path.rglob("run.json")))

    def test_that_nobody_reads_does_not_end_a_run(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "kvbench", *INLINE]
        run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()  # before the first line: the reader has gone
        err = run.stderr.read()
        run.stderr.close()
        assert (0, "") == (run.wait(), err)
        assert 1 == len(list(tmp_path.rglob("run.json")))
