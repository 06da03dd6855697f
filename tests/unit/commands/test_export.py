import json

import pytest
from report.records import two_arms, write_run

from kvbench.__main__ import main
from kvbench.commands.export import FORMATS
from kvbench.report.exports import formats


@pytest.fixture
def run(tmp_path):
    return write_run(two_arms(), tmp_path / "results" / "a").folder


def test_the_formats_offered_are_those_that_can_be_written():
    assert set(FORMATS) == set(formats.FORMATS)


@pytest.mark.parametrize("format", FORMATS)
def test_standard_output_and_a_file_get_the_same_bytes(run, tmp_path, format, capfdbinary):
    assert main(["export", str(run), "--format", format]) == 0
    assert main(["export", str(run), "--format", format, "--output", str(tmp_path / "out")]) == 0
    written = (tmp_path / "out").read_bytes()
    assert written
    assert written == capfdbinary.readouterr().out


def test_parquet_is_not_thrown_at_a_terminal(run, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert 2 == main(["export", str(run), "--format", "parquet"])
    assert "--output" in capsys.readouterr().err


def test_a_corrupt_run_is_named_and_the_rest_exported(run, capsys):
    (run.parent / "b").mkdir()
    (run.parent / "b" / "run.json").write_text('{"schema_version": 99}')
    assert main(["export", str(run.parent), "--format", "json"]) == 2
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1
    assert "schema_version 99 is unknown" in err


@pytest.mark.parametrize("output", ["no/such/folder.csv", "."])
def test_an_output_that_cannot_be_written_is_one_line(run, tmp_path, capsys, output):
    assert main(["export", str(run), "--format", "csv", "--output", str(tmp_path / output)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
