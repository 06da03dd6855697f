import json
import re
from html.parser import HTMLParser

import pytest

from kvbench.errors import RecordError
from kvbench.records.store import StoredRun, nobody
from kvbench.report.page.html import OURS, build
from kvbench.report.page.texts import MOST_CHARACTERS, Produced, produced_texts, prompt_texts

from .records import (
    HOSTILE,
    arm,
    comparison,
    failed,
    hostile,
    interrupted,
    interrupted_early,
    invalid,
    one_arm,
    two_arms,
    write_run,
)

LOADING = {"src", "href", "srcset", "poster", "action", "data"}


class Page(HTMLParser):
    """What a browser would see: tags with attributes, text outside scripts, and the scripts."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.scripts, self._inside = [], [], [], None
        self.feed(path.read_text(encoding="utf-8"))
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = tag if tag in ("script", "style") else self._inside

    def handle_endtag(self, tag):
        self._inside = None if tag == self._inside else self._inside

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside is None:
            self.text.append(data)

    @property
    def figures(self):
        return json.loads(next(script for script in self.scripts if script.startswith("{")))

    @property
    def table(self):
        """Every row of the overview's table, as title to text."""
        data = json.loads([script for script in self.scripts if script.startswith("{")][1])
        columns = data["columns"]
        return [
            {column["title"]: column["texts"][column["cells"][row]] for column in columns}
            | {"run": data["runs"][run][0]}
            for row, run in enumerate(data["run"])
        ]


@pytest.fixture
def page(tmp_path):
    def built(*records, notes=(), **folder):
        runs = [write_run(record, tmp_path / f"run{number}", **folder) for number, record in enumerate(records)]
        output = tmp_path / "report.html"
        build(runs, output, notes)
        return Page(output)

    return built


def test_the_page_is_one_file_that_loads_nothing(page):
    tags = page(two_arms(), invalid(), failed()).tags
    loaded = [value for _, attributes in tags for name, value in attributes.items() if name in LOADING]
    assert all(value.startswith(("#", "data:application/json;base64,")) for value in loaded)
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "img", "object")]


def test_plotly_is_there_exactly_once(page):
    scripts = page(two_arms(), two_arms(prompt=512)).scripts
    assert sum("plotly.js (basic" in script[:200] for script in scripts) == 1


def test_a_valid_run_headlines_its_speed_up_with_interval_and_agreement(page):
    words = page(two_arms()).words
    first = words.partition("At a glance")[0]
    assert "VALID 1 warning 3.42×" in first
    assert "95 % interval 3.38 to 3.47, 8 blocks cached (dynamic) decodes 3.42× as fast as nocache." in first
    assert "Output: same output, up to rounding." in first


def test_figures_on_the_page_are_those_of_the_record(page):
    record = two_arms()
    seen = page(record)
    bars = seen.figures["run-1-speed"]["data"][0]
    assert [each.decode_tokens_per_s.value for each in record.arms] == bars["x"]
    for text in ("12.5 ms [12.4, 12.6]", "87.5 KiB", "1,000 tok/s [990, 1,010]", "700 MiB"):
        assert text in seen.words
    titles = {attributes.get("title") for _, attributes in seen.tags}
    assert f"{record.arms[1].memory.kv_cache_bytes:,} bytes" in titles
    assert f"{record.arms[0].itl_s.value!r} s" in titles


def test_every_chart_of_a_measured_run_has_data_and_a_caption(page):
    seen = page(two_arms())
    speed, steps = {"speedup", "speed", "step-time"}, {"latency", "cumulative", "distribution"}
    assert {f"run-1-{key}" for key in speed | steps | {"memory-stack", "cache", "memory"}} == set(seen.figures)
    assert "nocache 3.41 ms at 129 3.88 ms at 175" in seen.words
    lines = [trace for trace in seen.figures["run-1-latency"]["data"] if trace["mode"] == "lines"]
    assert [lines[0]["x"][0], lines[0]["x"][-1]] == [129, 175]


def test_a_chart_without_data_says_why(page, tmp_path):
    run = write_run(two_arms(memory_timeline=[]), tmp_path / "run")
    (run.folder / "steps.parquet").unlink()
    build([run], tmp_path / "report.html")
    seen = Page(tmp_path / "report.html")
    assert not {"run-1-latency", "run-1-cumulative", "run-1-distribution", "run-1-memory"} & set(seen.figures)
    assert "The single decode steps were not kept" in seen.words
    assert "Nothing watched this run's memory from outside" in seen.words


def test_a_broken_step_table_costs_its_charts_only(page, tmp_path):
    run = write_run(two_arms(), tmp_path / "run")
    (run.folder / "steps.parquet").write_bytes(b"PAR1 cut off")
    build([run], tmp_path / "report.html")
    seen = Page(tmp_path / "report.html")
    assert "steps.parquet: cannot read" in seen.words
    assert "3.42× [3.38, 3.47]" in seen.words


@pytest.mark.parametrize("record", [invalid(), interrupted()], ids=["invalid", "interrupted"])
def test_a_pair_that_is_not_a_result_is_never_headlined(page, record):
    seen = page(record)
    assert "as fast as" not in seen.words
    assert "FASTER" not in seen.words
    assert "Not a result" in seen.words
    assert "speedup" not in [attributes.get("class") for _, attributes in seen.tags]


def test_an_invalid_run_of_a_sweep_adds_no_speed_up_to_the_overview(page):
    seen = page(two_arms(prompt=128), two_arms(prompt=512), invalid(), failed())
    assert "2 of 4 runs are VALID. Speed-ups lie between 3.42× [3.38, 3.47] and 3.42× [3.38, 3.47]." in seen.words
    assert seen.figures["overview-speedup-by-prompt"]["data"][0]["x"] == [128, 512]
    remarks = [row["remark"] for row in seen.table]
    assert remarks[2].startswith("not a result: mode_proof: 3 steps")
    assert remarks[3] == "the device ran out of memory at 4.2 GiB"
    assert [row["speed-up"] for row in seen.table] == ["3.42× [3.38, 3.47]", "3.42× [3.38, 3.47]", "", ""]


def test_runs_of_one_prompt_length_have_no_chart_over_prompts(page):
    assert "overview-speedup-by-prompt" not in page(two_arms(), two_arms(run_id="again")).figures


def test_runs_with_labels_too_long_to_tell_apart_keep_bars_of_their_own(page):
    # Labels as positions once stacked two such runs into one bar of twice the speed.
    same = arm("cached", attention="a" * 80)
    seen = page(one_arm(arms=[same]), one_arm(arms=[same], run_id="again"))
    (bars,) = seen.figures["overview-speed-by-run"]["data"]
    assert bars["y"] == [0, 1.6]


def test_a_run_stopped_before_its_first_block_has_no_chart_and_says_why(page):
    record = interrupted_early().model_copy(update={"null_reasons": {"/arms/0/decode_tokens_per_s/value": "no block"}})
    seen = page(record)
    assert seen.figures == {}
    assert "No rates: no block." in seen.words
    assert "No text was produced" in seen.words


def test_a_run_without_arms_is_shown_with_its_reason(page):
    words = page(failed("refused", "workload.new_tokens=0: must be at least 2")).words
    assert "REFUSED no warnings workload.new_tokens=0: must be at least 2." in words


def test_one_arm_has_nothing_to_compare(page):
    words = page(one_arm()).words
    assert "there is nothing to compare it with." in words


def test_hostile_strings_are_shown_and_never_obeyed(page):
    attack = " ".join(HOSTILE)
    seen = page(hostile(), notes=[attack], prompts=[attack])
    assert not [tag for tag, attributes in seen.tags if tag == "img" or "onerror" in attributes]
    assert len([script for script in seen.scripts if script.strip()]) == 4 + 1 + len(OURS)  # data, plotly, ours
    outside = "".join(seen.text)
    assert not {"\x1b", "\x9b", "\x07", "\u202e", "\u2066", "\u2028"} & set(outside)
    assert HOSTILE[0] in outside
    assert "␛[31mred" in outside


def test_no_string_of_a_record_can_end_the_script_of_figures(page, tmp_path):
    seen = page(hostile())
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    block = re.search(r'<script type="application/json" id="figures">(.*?)</script>', raw, re.DOTALL).group(1)
    assert not {"<", ">", "&", "\u2028"} & set(block)
    names = {trace.get("name", "") for trace in seen.figures["run-1-latency"]["data"]}
    assert not [name for name in names if "<" in name]


def test_unknown_values_carry_their_reason(page):
    seen = page(two_arms())
    assert "Unknown here: energy needs a window of seconds of its own." in seen.words
    assert ("td", {"title": "energy needs a window of seconds of its own", "class": "unknown"}) in seen.tags


def test_the_page_is_accessible(page):
    seen = page(two_arms(), invalid())
    assert ("html", {"lang": "en"}) in seen.tags
    assert "title" in [tag for tag, _ in seen.tags]
    assert [tag for tag, _ in seen.tags].count("h1") == 1
    assert all("scope" in attributes for tag, attributes in seen.tags if tag == "th")
    assert all(attributes.get("aria-label") for _, attributes in seen.tags if attributes.get("class") == "chart")


def test_an_output_that_cannot_be_written_is_one_clear_error(tmp_path):
    with pytest.raises(RecordError, match="cannot write"):
        build([write_run(one_arm(), tmp_path / "run")], tmp_path / "missing" / "report.html")


def written(run: StoredRun) -> Produced:
    return produced_texts(run, prompt_texts(run, nobody))


def test_equal_texts_are_said_once_and_different_ones_side_by_side(tmp_path):
    same = written(write_run(two_arms(), tmp_path / "same"))
    assert [each.arms for each in same.exchanges[0].completions] == ["nocache, cached (dynamic)"]
    assert same.note.startswith("All arms wrote the same text.")
    unlike = two_arms(arms=[arm("nocache", text="one"), arm("cached", text="two")])
    different = written(write_run(unlike, tmp_path / "different"))
    assert [each.text for each in different.exchanges[0].completions] == ["one", "two"]
    assert different.note.startswith("The arms wrote different texts.")


def test_long_texts_are_cut_in_the_middle_and_a_missing_prompt_is_left_out(tmp_path):
    run = write_run(two_arms(arms=[arm("cached", text="x" * 5000)], comparisons=[], comparison=None), tmp_path / "run")
    (run.folder / "prompts.jsonl").write_text("not json\n")
    (exchange,) = written(run).exchanges
    assert exchange.prompt is None
    assert f"{5000 - MOST_CHARACTERS:,} characters left out" in exchange.completions[0].text


def test_every_pair_of_a_run_with_many_arms_is_in_the_overview(page):
    arms = [arm("nocache"), arm("cached"), arm("generate")]
    pairs = [comparison(), comparison(candidate_arm=2, verdict="SLOWER")]
    seen = page(two_arms(arms=arms, comparisons=pairs), two_arms(run_id="again"))
    assert [("cached (dynamic)", "FASTER"), ("generate", "SLOWER"), ("cached (dynamic)", "FASTER")] == [
        (row["arm"], row["verdict"]) for row in seen.table
    ]


def test_a_difference_of_unknown_peaks_is_unknown_with_its_reason_in_old_records_too(page):
    # The records here have no peaks, and a difference that an earlier version took from the caches.
    reasons = {"/arms/1/memory/peak_allocated_bytes": "no statistics on cpu"}
    words = page(two_arms().model_copy(update={"null_reasons": reasons})).words
    known = "How much more memory cached (dynamic) needs at its peak than nocache is not known (no statistics on cpu)."
    assert known in words


def test_such_a_difference_is_unknown_in_the_table_of_runs_too(page):
    assert {"—", ""} >= {row.get("extra memory", "") for row in page(two_arms(), one_arm()).table}
