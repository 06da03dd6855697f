import json
import subprocess
import sys

import pytest
from report.records import HOSTILE, failed, hostile, two_arms, write_run

from kvbench.__main__ import main


@pytest.fixture
def run(tmp_path):
    return write_run(two_arms(), tmp_path / "results" / "a").folder


def test_a_run_shows_its_comparison_and_verdict_in_plain_text(run, capsys):
    assert main(["show", str(run)]) == 0
    out = capsys.readouterr().out
    assert "FASTER: cached (dynamic) decodes 3.42×" in out
    assert "model embedded · dtype " in out
    assert "VALID" in out
    assert "\x1b" not in out


def test_a_folder_of_runs_shows_a_row_for_each(run, capsys):
    write_run(failed(), run.parent / "b")
    assert main(["show", str(run.parent)]) == 0
    out = capsys.readouterr().out
    assert "3.42× [3.38, 3.47]" in out
    assert "OOM" in out


def test_json_is_the_record_of_a_run_and_a_list_for_a_folder_of_runs(run, capsys):
    assert main(["show", str(run), "--json"]) == 0
    assert json.loads((run / "run.json").read_text()) == json.loads(capsys.readouterr().out)
    assert main(["show", str(run.parent), "--json"]) == 0
    assert [json.loads((run / "run.json").read_text())] == json.loads(capsys.readouterr().out)


def test_hostile_strings_reach_the_terminal_as_text(tmp_path, capsys):
    folder = write_run(hostile(), tmp_path / "h").folder
    assert main(["show", str(folder)]) == 0
    assert main(["show", str(folder), "--json"]) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(out)
    assert HOSTILE[1] in json.loads(out[out.index("\n{\n") :])["model"]["name"]


def test_a_corrupt_run_is_named_and_the_rest_shown(run, capsys):
    (run.parent / "b").mkdir()
    (run.parent / "b" / "run.json").write_text("{")
    assert main(["show", str(run.parent)]) == 2
    out, err = capsys.readouterr()
    assert "VALID" in out
    assert len(err.splitlines()) == 1


def test_a_missing_path_is_one_line(tmp_path, capsys):
    assert main(["show", str(tmp_path / "x")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_terminal_without_unicode_gets_stand_ins_instead_of_an_error(run):
    ran = subprocess.run(
        [sys.executable, "-m", "kvbench", "show", str(run)],
        capture_output=True,
        timeout=60,
        check=True,
        env={"PYTHONIOENCODING": "ascii"},
    )
    assert b"3.42? [3.38, 3.47]" in ran.stdout


def test_a_closed_pipe_is_quiet(run):
    command = [sys.executable, "-m", "kvbench", "show", str(run), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("command", ["show", "export", "report"])
def test_help_answers_without_reading_a_record_or_importing_torch(command):
    code = (
        "import sys; from kvbench.__main__ import main\n"
        f"try: main(['{command}', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'pydantic', 'plotly', 'rich', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
