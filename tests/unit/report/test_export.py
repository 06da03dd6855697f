import csv
import io
import json
import subprocess
import sysconfig
from pathlib import Path

import pyarrow.parquet
import pytest

from kvbench.records.part import Estimate
from kvbench.records.proposals import ProposalCounts, proposals_of
from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun
from kvbench.report.exports.columns import COLUMNS
from kvbench.report.exports.formats import FORMATS, export
from kvbench.report.exports.rows import flat_rows

from .records import (
    BLOCKS,
    HOSTILE,
    failed,
    hostile,
    interrupted,
    interrupted_early,
    invalid,
    one_arm,
    step_s,
    two_arms,
    write_run,
)


def stored(tmp_path, *records):
    return [write_run(record, tmp_path / f"run{number}") for number, record in enumerate(records)]


def at(record):
    return StoredRun(record, Path("somewhere"))


def csv_rows(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_csv_has_a_row_per_run_and_arm_with_units_in_its_columns(tmp_path):
    rows = csv_rows(export(stored(tmp_path, two_arms(), one_arm(), failed()), "csv"))
    assert [row["arm"] for row in rows] == ["nocache", "cached (dynamic)", "cached (dynamic)", ""]
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "oom"]
    assert rows[0]["itl_s"] == "0.00342"
    assert rows[1]["kv_cache_bytes"] == "89600"
    assert (rows[0]["speedup"], rows[1]["speedup"], rows[1]["speedup_ci_low"]) == ("", "3.42", "3.38")


def test_every_export_has_the_same_columns():
    for record in (two_arms(), failed(), hostile()):
        assert all(list(COLUMNS) == list(row) for row in flat_rows([at(record)]))


def test_every_figure_with_an_interval_has_the_columns_of_one(tmp_path):
    counts = ProposalCounts((1, 3), (0, 4), submitted=10, draft_passes=4, draft_submitted=8, draft_kv_bytes=1)
    pass_s = Estimate(estimator="median over blocks", value=0.25, ci_low=0.2, ci_high=0.3, level=0.95, n=5)
    told = proposals_of([counts], "itself", 7, 0).model_copy(update={"pass_s": pass_s})
    record = one_arm()
    record = record.model_copy(update={"arms": (record.arms[0].model_copy(update={"proposals": told}),)})
    (row,) = csv_rows(export(stored(tmp_path, record), "csv"))
    names = ("pass_s", "pass_s_ci_low", "pass_s_ci_high", "pass_s_level", "pass_s_n", "acceptance", "tokens_per_pass")
    assert ["0.25", "0.2", "0.3", "0.95", "5", "0.5", "2.0"] == [row[name] for name in names]


@pytest.mark.parametrize("record", [invalid(), interrupted()], ids=["invalid", "interrupted"])
def test_a_pair_that_is_not_a_result_has_a_reason_instead_of_a_speed_up(record):
    row = flat_rows([at(record)])[1]
    assert row["speedup"] is None
    assert row["not_a_result"]


def test_no_cell_is_a_formula_or_moves_the_cursor(tmp_path):
    record = two_arms(
        status="failed", status_reason="=HYPERLINK(1)", run_id="@x", model={"name": "\x1b[2J", "dtype": "+1"}
    )
    text = export(stored(tmp_path, record), "csv").decode()
    assert "\x1b" not in text
    row = csv_rows(text.encode())[0]
    assert (row["status_reason"], row["run_id"], row["dtype"]) == ("'=HYPERLINK(1)", "'@x", "'+1")


@pytest.mark.parametrize("start", ["=1+1", "\t=1+1", "\n=1+1", "\u00a0=1+1", " =1+1", "＝1+1", "＋1", "@x", "-1+1"])
def test_no_start_of_a_cell_gets_through(tmp_path, start):
    """Read back by a CSV reader, as a spreadsheet does: after its blanks, no cell begins as a formula does."""
    record = two_arms(status="failed", status_reason=start, run_id=start, model={"name": start, "dtype": start})
    for row in csv_rows(export(stored(tmp_path, record), "csv")):
        for name, cell in row.items():
            if isinstance(cell, str) and name in ("status_reason", "run_id", "dtype", "model"):
                assert cell[:1] == "'", (name, cell)


def test_json_brings_the_records_back_whole_in_ascii(tmp_path):
    records = [two_arms(), hostile(), failed("failed", "\x7f ключ")]
    content = export(stored(tmp_path, *records), "json")
    assert content.isascii()
    assert not {0x1B, 0x7F} & set(content)
    assert records == [RunRecord.model_validate_json(json.dumps(each)) for each in json.loads(content)]


def test_parquet_holds_the_rows_of_csv_with_their_types(tmp_path):
    records = [two_arms(), failed(), invalid()]
    runs = stored(tmp_path, *records)
    table = pyarrow.parquet.read_table(io.BytesIO(export(runs, "parquet")))
    assert flat_rows(runs) == table.to_pylist()
    assert tuple(
        str(table.schema.field(name).type) for name in ("peak_allocated_bytes", "joules_per_token", "baseline")
    ) == ("int64", "double", "string")


def test_md_is_a_table_with_as_many_cells_in_every_row(tmp_path):
    text = export(stored(tmp_path, two_arms(), invalid(), failed(), one_arm()), "md").decode()
    lines = text.splitlines()
    assert len({line.count(" | ") for line in lines}) == 1
    assert "3.42× [3.38, 3.47] | EQUAL_WITHIN_ROUNDING | VALID |" in lines[3]
    assert "not a result" in lines[5]
    assert text.count("3.42×") == 1
    assert "OOM: the device ran out of memory" in lines[6]


def test_md_holds_no_markup_of_strangers(tmp_path):
    text = export(stored(tmp_path, hostile()), "md").decode()
    assert len(text.splitlines()) == 2 + 2
    for attack in HOSTILE:
        assert attack not in text
    assert "\\<script\\>" in text


def test_pytest_benchmark_has_one_benchmark_per_arm_over_its_blocks(tmp_path):
    record = two_arms()
    document = json.loads(export(stored(tmp_path, record, invalid(), failed()), "pytest-benchmark"))
    assert len(document["benchmarks"]) == 2
    stats = document["benchmarks"][1]["stats"]
    assert stats["rounds"] == BLOCKS
    assert [step_s(record, 1, block) for block in range(BLOCKS)] == pytest.approx(stats["data"])
    assert {"machine_info", "commit_info", "datetime", "version"} < set(document)
    assert document["commit_info"]["id"] == "0123abc"


def test_pytest_benchmark_compare_reads_it(tmp_path):
    for name in ("base", "new"):
        content = export(stored(tmp_path / name, two_arms()), "pytest-benchmark")
        (tmp_path / f"{name}.json").write_bytes(content)
    command = Path(sysconfig.get_path("scripts")) / "pytest-benchmark"
    ran = subprocess.run(
        [command, "compare", "base.json", "new.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.count("128 new=48 batch=1] cached (dynamic)") == 2
    assert "Failed to load" not in ran.stdout + ran.stderr


def test_every_format_takes_runs_without_arms_or_figures(tmp_path):
    runs = stored(tmp_path, failed(), interrupted_early())
    assert all(export(runs, name) for name in FORMATS)
