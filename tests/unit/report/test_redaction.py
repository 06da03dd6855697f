import base64
import json
import re

import pytest

from kvbench.records.run_record import RunRecord
from kvbench.report.page.html import build
from kvbench.report.redaction import redacted, redacted_text

from .records import comparison, two_arms, write_run

HOST, USER = "build-box-17", "ada.lovelace"
PLACES = (f"/home/{USER}/models/gemma", f"C:\\Users\\{USER}\\kv", "/mnt/secret/project/x.txt", f"~{USER}/work/notes")
PLANTED = f"open {PLACES[0]}: failed on {HOST} for {USER} at '{PLACES[1]}' ({PLACES[2]}), {PLACES[3]}"
KEPT = ("texts", "status", "verdict", "mode", "cache", "created_at", "evidence")


def planted(record):
    def replaced(value, key):
        if isinstance(value, dict):
            return {name: replaced(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [replaced(item, key) for item in value]
        return PLANTED if isinstance(value, str) and key not in KEPT else value

    data = replaced(json.loads(record.model_dump_json()), "")
    data["environment"] |= {"hostname": HOST, "user": USER}
    data["config"] |= {"results_dir": "private/results"}
    data["config"]["workload"] |= {"prompts": "customers.jsonl", "prompt": "kept /as/it/is"}
    return RunRecord.model_validate_json(json.dumps(data))


def leaks(text):
    secrets = (HOST, USER, "/mnt/secret", "private/results", "customers.jsonl", "models/gemma")
    return [secret for secret in secrets if secret in text]


@pytest.fixture
def record():
    sentence = {"code": "x", "text": "said", "evidence": ["/arms/0"]}
    return planted(two_arms(pair=comparison(diagnosis=[sentence], reasons=["why"])))


def test_no_string_of_a_redacted_record_tells_host_user_or_place(record):
    assert [] != leaks(record.model_dump_json())
    assert [] == leaks(redacted(record).model_dump_json())


def test_figures_texts_and_our_own_words_stay_as_they_are(record):
    scrubbed = redacted(record)
    assert record.arms[0].texts == scrubbed.arms[0].texts
    assert record.arms[0].itl_s.value == scrubbed.arms[0].itl_s.value
    assert (record.status, record.comparisons[0].verdict) == (scrubbed.status, scrubbed.comparisons[0].verdict)
    assert "kept /as/it/is" == scrubbed.config["workload"]["prompt"]


def test_pointers_into_the_record_are_no_paths(record):
    scrubbed = redacted(record)
    assert record.null_reasons.keys() == scrubbed.null_reasons.keys()
    assert ("/arms/0",) == scrubbed.comparisons[0].diagnosis[0].evidence


@pytest.mark.parametrize(
    "text", ["tokens/s", "1/2 of 3", "and/or", "https://huggingface.co/org/model", "org/model", "12.5 ms [12.4, 12.6]"]
)
def test_what_only_looks_like_a_path_stays(text):
    record = two_arms(warnings=[{"code": "x", "detail": text}])
    assert text == redacted(record).warnings[0].detail


@pytest.mark.parametrize("count", [1, 2])
def test_a_redacted_page_tells_nothing_of_the_machine_in_its_embedded_records_either(record, tmp_path, count):
    folder = tmp_path / HOST / USER
    runs = [write_run(record, folder / f"run{number}") for number in range(count)]
    (folder / "run0" / "steps.parquet").write_bytes(b"broken, and the note about it names the file")
    build(runs, folder / "report.html", [f"left out: {PLACES[0]}: broken"], redact=True)
    page = (folder / "report.html").read_text(encoding="utf-8")
    addresses = re.findall(r"data:application/json;base64,([\w+/=]+)", page)
    embedded = [base64.b64decode(each).decode() for each in addresses]
    assert count == len(embedded)
    for text in (page, *embedded):
        assert [] == leaks(text)
    assert "Prompts and generated texts are kept" in page


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("/home/alice/My Secret Project/out dir/x: cannot write", "[path]: cannot write"),
        ("cannot read '/home/al/my letters.txt', and stops", "cannot read '[path]', and stops"),
        ('"C:\\Users\\Al Ice\\a b.txt" is gone', '"[path]" is gone'),
        ("5 tokens/s of 7, and/or none", "5 tokens/s of 7, and/or none"),
    ],
)
def test_a_path_with_blanks_leaves_nothing_behind(said, left):
    assert left == redacted_text(said)
