"""`kvbench query`: the four views, what a query may not do, and what it says when it fails."""

import csv
import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet
import pytest

from kvbench.commands import query as command
from kvbench.installation import install_hint
from kvbench.report.exports import sql
from kvbench.report.exports.columns import VIEWS

from .records import HOSTILE, failed, hostile, two_arms, write_run

needs_duckdb = pytest.mark.skipif(find_spec("duckdb") is None, reason="wants DuckDB: pip install 'kvbench[query]'")
ENVIRONMENT = {
    "torch": "2.13.0",
    "transformers": "5.24.0",
    "driver": "570.1",
    "git_commit": "0123abc",
    "git_dirty": False,
}


@pytest.fixture
def results(tmp_path):
    write_run(two_arms(environment=ENVIRONMENT), tmp_path / "results" / "a")
    write_run(failed(), tmp_path / "results" / "b")
    return tmp_path / "results"


@pytest.fixture
def rows(run_kvbench, results):
    """The answer to a query, as JSON."""

    def ask(text, path=results):
        code, out, err = run_kvbench("query", text, str(path), "--format", "json")
        assert (0, "") == (code, err)
        return json.loads(out)

    return ask


@needs_duckdb
class TestViews:
    def test_runs_have_what_the_figures_depend_on(self, rows, results):
        named = "torch, transformers, driver, git_commit, git_dirty, folder"
        (row,) = rows(f"select {named} from runs where status = 'ok'")
        assert {**ENVIRONMENT, "folder": str(results / "a")} == row

    def test_arms_are_the_rows_of_the_csv_export(self, rows, run_kvbench, results):
        exported = csv.DictReader(io.StringIO(run_kvbench("export", str(results), "--format", "csv")[1]))
        told = rows("select * from arms order by folder, arm desc nulls last")
        for row, line in zip(told, sorted(exported, key=lambda each: (each["folder"], each["arm"] == "")), strict=True):
            assert list(VIEWS["arms"]) == list(row) == list(line)
            assert line["itl_s"] == ("" if row["itl_s"] is None else str(row["itl_s"]))

    def test_comparisons_have_the_candidate_and_its_interval(self, rows):
        (row,) = rows("select candidate, baseline, verdict, speedup, speedup_ci_low, speedup_ci_high from comparisons")
        assert ["cached (dynamic)", "nocache", "FASTER", 3.42, 3.38, 3.47] == list(row.values())

    def test_steps_join_their_runs_and_arms(self, rows):
        text = """select arm, count(*) as steps, min(latency_s) > 0 as timed, any_value(lane) as lane
                  from steps join runs using (run_id, folder) group by arm order by arm desc"""
        first, second = rows(text)
        assert {"arm": "nocache", "timed": True, "lane": "steps"} == {
            key: first[key] for key in ("arm", "timed", "lane")
        }
        assert ("cached (dynamic)", first["steps"]) == (second["arm"], second["steps"])
        assert first["steps"] > 0

    def test_every_view_has_its_columns_with_meaning_and_of_figures_the_unit(self, rows, run_kvbench):
        _, listed, _ = run_kvbench("query", "--views")
        assert max(map(len, listed.splitlines())) <= 80
        for view, columns in VIEWS.items():
            assert list(columns) == [row["column_name"] for row in rows(f"describe {view}")]
            assert f"{view}: " in listed
            for name, column in columns.items():
                assert column.meaning.endswith("."), name
                assert f"  {name} (" in listed
                if name.partition("_ci_")[0].endswith(("_s", "_bytes", "_per_s", "_watts")):
                    assert column.unit, name

    def test_more_runs_than_are_held_at_a_time(self, rows, results, monkeypatch):
        monkeypatch.setattr(sql, "AT_A_TIME", 1)
        assert [{"n": 2, "arms": 3}] == rows("select count(distinct folder) as n, count(*) as arms from arms")

    def test_step_tables_are_read_only_where_steps_are_asked_for(self, rows, run_kvbench, results):
        (results / "a" / "steps.parquet").write_bytes(b"broken")
        assert [{"n": 2}] == rows("select count(*) as n from runs")
        code, out, err = run_kvbench("query", "select count(*) as n from steps", str(results), "--format", "json")
        assert (2, [{"n": 0}]) == (code, json.loads(out))
        assert "skipped" in err
        assert "steps.parquet" in err


@needs_duckdb
class TestFormats:
    def test_a_table_fits_a_terminal_of_80_columns(self, run_kvbench, results):
        code, out, _ = run_kvbench("query", "select * from arms", str(results))
        assert code == 0
        assert max(map(len, out.splitlines())) <= 80
        assert "run_id" in out

    def test_parquet_keeps_the_types(self, run_kvbench, results, tmp_path):
        text = "select run_id, git_dirty, kv_cache_bytes, itl_s from arms"
        run_kvbench("query", text, str(results), "--format", "parquet", "--output", "x.parquet")
        table = pyarrow.parquet.read_table(tmp_path / "x.parquet")
        assert ["string", "bool", "int64", "double"] == [str(kind) for kind in table.schema.types]

    def test_json_has_no_nan(self, rows):
        assert [{"x": None, "y": 2}] == rows("select 'nan'::double as x, 2 as y")

    def test_no_cell_of_csv_is_a_formula(self, run_kvbench, results):
        _, out, _ = run_kvbench("query", "select '=1+1' as x", str(results), "--format", "csv")
        assert "x\n'=1+1\n" == out


@needs_duckdb
class TestHostileNames:
    def test_are_data(self, rows, run_kvbench, tmp_path):
        name = "x'); drop table runs; --"
        write_run(hostile(), tmp_path / "sent" / "a")
        write_run(two_arms(run_id=name), tmp_path / "sent" / name.replace("/", ""))
        told = rows("select run_id from runs order by run_id", tmp_path / "sent")
        assert name in [row["run_id"] for row in told]
        _, out, _ = run_kvbench("query", "select * from runs", str(tmp_path / "sent"))
        assert not any(attack in out for attack in HOSTILE if "\x1b" in attack or "\u202e" in attack)


@needs_duckdb
class TestAQueryOnlyReads:
    @pytest.mark.parametrize(
        "text",
        [
            "copy runs to '{outside}'",
            "copy (select 1) to '{outside}'",
            "export database '{folder}'",
            "attach '{outside}'",
            "insert into runs (run_id) values ('x')",
            "update runs set status = 'ok'",
            "drop table runs",
            "create table x as select 1",
            "set enable_external_access = true",
            "install httpfs",
            "select 1; select 2",
            "",
            "select * from read_text('{secret}')",
            "select * from read_csv('{secret}')",
            "select * from read_blob('{secret}')",
            "select * from '{secret}'",
            "select * from glob('{folder}/*')",
            "select * from read_parquet('https://example.org/x.parquet')",
            "select * from results",  # a variable of Python
            "select getenv('HOME')",
        ],
    )
    def test_and_is_refused_in_one_line(self, run_kvbench, results, tmp_path, text):
        secret, outside = tmp_path / "secret.csv", tmp_path / "out.csv"
        secret.write_text("canary\n1\n")
        before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        asked = text.format(outside=outside, secret=secret, folder=tmp_path)
        code, out, err = run_kvbench("query", asked, str(results))
        assert (2, "") == (code, out)
        assert 1 == len(err.splitlines())
        assert "canary" not in err
        assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def test_a_mistake_is_told_before_any_run_is_read(self, run_kvbench, results, monkeypatch):
        monkeypatch.setattr(sql, "_fill", lambda *_, **__: pytest.fail("runs were read"))
        code, _, err = run_kvbench("query", "select nosuch from arms", str(results))
        assert 2 == code
        assert 'Referenced column "nosuch" not found' in err
        assert "query --views" in err
        assert "LINE 1" not in err


class TestWhatIsMissing:
    def test_the_package_is_named_with_the_way_to_get_it(self, run_kvbench, results, monkeypatch):
        monkeypatch.setattr(sql, "find_spec", lambda _: None)
        code, _, err = run_kvbench("query", "select 1", str(results))
        hint = install_hint("query")
        assert (2, f"kvbench: query needs the package duckdb, which is not installed: {hint}\n") == (code, err)

    def test_a_query_must_be_given(self, run_kvbench):
        code, _, err = run_kvbench("query")
        assert 2 == code
        assert "give a query" in err

    def test_without_a_path_it_asks_the_results_folder(self, run_kvbench):
        code, _, err = run_kvbench("query", "select 1")
        assert 2 == code
        assert "results: no such file or folder" in err
        assert Path("results") == command.RESULTS

    def test_parquet_is_not_written_to_a_terminal(self, run_kvbench, results, monkeypatch):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        code, _, err = run_kvbench("query", "select 1", str(results), "--format", "parquet")
        assert 2 == code
        assert "--output" in err
