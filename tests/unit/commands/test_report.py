import pytest
from report.records import invalid, two_arms, write_run

from kvbench.__main__ import main


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch):
    """On a busy machine a page takes longer than the patience that a person has, and the line about it is no error."""
    monkeypatch.setattr("kvbench.commands.report.PATIENCE_S", 600.0)


@pytest.fixture
def results(tmp_path):
    write_run(two_arms(), tmp_path / "results" / "embedded" / "a")
    write_run(invalid(), tmp_path / "results" / "embedded" / "b")
    return tmp_path / "results"


def test_the_report_of_one_folder_lies_in_it_and_its_path_is_printed(results, capsys):
    assert main(["report", str(results)]) == 0
    out, err = capsys.readouterr()
    assert f"{results / 'report.html'}\n" == out
    assert err == ""
    assert "1 of 2 runs are VALID" in (results / "report.html").read_text(encoding="utf-8")


def test_the_report_of_several_paths_lies_here(results, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(results / "embedded" / "a"), str(results / "embedded" / "b")]) == 0
    assert (tmp_path / "report.html").exists()


def test_an_output_may_be_named_or_be_a_folder(results, tmp_path, capsys):
    assert main(["report", str(results), "--output", str(tmp_path / "my.html")]) == 0
    assert main(["report", str(results), "--output", str(tmp_path)]) == 0
    assert f"{tmp_path / 'my.html'}\n{tmp_path / 'report.html'}\n" == capsys.readouterr().out


def test_a_corrupt_run_is_named_and_skipped_and_the_rest_reported(results, capsys):
    broken = results / "embedded" / "c" / "run.json"
    broken.parent.mkdir()
    broken.write_text('{"schema_version": 1, "run_id"')
    assert main(["report", str(results)]) == 2
    _, err = capsys.readouterr()
    assert [f"kvbench: skipped {broken}: not complete JSON (line 1): truncated or edited"] == err.splitlines()
    page = (results / "report.html").read_text(encoding="utf-8")
    assert f"left out: {broken}" in page
    assert "1 of 2 runs are VALID" in page


def test_an_unfinished_run_is_mentioned_in_one_line(results, capsys):
    unfinished = results / "embedded" / "d"
    unfinished.mkdir()
    (unfinished / "blocks.jsonl").write_text('{"index": 0, "elapsed_s": 1, "visits": []}\n')
    assert main(["report", str(results)]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert "unfinished: " in (results / "report.html").read_text(encoding="utf-8")


def test_a_missing_path_is_one_line_that_names_it(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert f"kvbench: {tmp_path / 'nowhere'}: no such file or folder\n" == capsys.readouterr().err


def test_a_folder_without_runs_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert f"kvbench: {tmp_path}: no runs yet; measure one with `python -m kvbench`\n" == capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_one_line(results, tmp_path, capsys):
    assert main(["report", str(results), "--output", str(tmp_path / "no" / "r.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_person_who_waits_is_told_what_for(results, capsys, monkeypatch):
    import time

    import kvbench.commands.report
    import kvbench.report.page.html

    monkeypatch.setattr(kvbench.commands.report, "PATIENCE_S", 0.0)
    monkeypatch.setattr(kvbench.report.page.html, "build", lambda *_, **__: time.sleep(0.2))
    main(["report", str(results)])
    assert capsys.readouterr().err == "building the report over 2 runs …\n"
