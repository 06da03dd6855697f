"""What `kvbench.measure` returns shows itself, becomes frames, is saved as a run folder and is reported."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runs import SCRIPTED, scripted_samples

from kvbench.__main__ import main
from kvbench.analysis.assemble import assemble
from kvbench.errors import ConfigError, RecordError
from kvbench.measured_run import InFolder, InMemory, MeasuredRun
from kvbench.point import new_run_id
from kvbench.progress_line import ProgressLine
from kvbench.records.run_record import RunRecord
from kvbench.records.store import read_record
from kvbench.report.exports.columns import COLUMNS
from kvbench.running.job import Progress


def measured(*overrides: str) -> MeasuredRun:
    plan, samples = scripted_samples(*overrides)
    run_id = new_run_id()
    record = assemble(plan, samples, run_id=run_id, created_at="2026-01-01T00:00:00+00:00")
    return MeasuredRun.of(record, InMemory(plan, samples, run_id))


@pytest.fixture(scope="module")
def run() -> MeasuredRun:
    return measured()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """The command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def typed(*arguments: str) -> tuple[int, str]:
        said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        with contextlib.redirect_stdout(said):
            code = main(list(arguments))
        return code, said.buffer.getvalue().decode()  # type: ignore[attr-defined]

    return typed


class TestTheRecord:
    def test_is_a_record_with_all_of_its_fields(self, run: MeasuredRun) -> None:
        assert isinstance(run, RunRecord)
        again = RunRecord.model_validate_json(run.model_dump_json())
        assert again == run
        assert run == again
        assert run != again.model_copy(update={"run_id": "another"})

    def test_says_its_answer_in_one_line(self, run: MeasuredRun) -> None:
        assert repr(run).startswith("<kvbench scripted: nocache, cached (dynamic): cached (dynamic) decodes ")
        assert repr(run).endswith("Output: same output. VALID, no warnings>")
        assert len(repr(run)) < 250
        assert "\n" not in repr(run)

    def test_prints_what_the_terminal_shows_of_it(
        self, run: MeasuredRun, shell: Callable[..., tuple[int, str]]
    ) -> None:
        run.save()
        code, said = shell("show", "last")
        assert 0 == code
        assert [line.rstrip() for line in said.rstrip().splitlines()] == str(run).splitlines()

    def test_speaks_the_language_of_the_environment(self, run: MeasuredRun, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KVBENCH_LANG", "zh-CN")
        for said in (repr(run), str(run), run._repr_html_()):
            assert "输出" in said


class Page(HTMLParser):
    """The elements of a piece of HTML, each closed where it has to be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self.feed(text)
        assert [] == self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._open.pop()


class TestInANotebook:
    def test_shows_verdict_table_and_chart_and_needs_no_script(self, run: MeasuredRun) -> None:
        shown = run._repr_html_()
        page = Page(shown)
        assert ("div", 1, 1) == (page.tags[0], page.tags.count("svg"), page.tags.count("table"))
        assert not {"script", "link", "img", "iframe", "html", "body"} & set(page.tags)
        assert not [name for name, value in page.attributes if name.startswith("on") or name in ("src", "href")]
        for said in ("VALID", "cached (dynamic) decodes", "same output", "per token (ITL)", "Decode step latency"):
            assert said in shown

    def test_styles_nothing_but_itself_and_takes_the_colours_around_it(self, run: MeasuredRun) -> None:
        (style,) = re.findall(r"<style>(.*?)</style>", run._repr_html_(), re.DOTALL)
        rules = re.findall(r"([^{}]+)\{([^{}]*)\}", style)
        assert rules
        for selector, said in rules:
            assert selector.strip().startswith(".kvbench-run")
            assert not re.search(r"(?<!-)\bcolor: (?!inherit)|background: (?!none|rgba)", said)

    def test_shows_what_is_no_result_and_why(self) -> None:
        shown = measured("measure.blocks=1")._repr_html_()
        assert "Not a result" in shown
        assert "a verdict needs 5" in shown

    def test_escapes_what_others_wrote(self) -> None:
        shown = measured("title='<b>bold</b><script>'")._repr_html_()
        assert "&lt;b&gt;bold" in shown
        assert "<script>" not in shown


class TestFrames:
    def test_in_pandas_have_a_row_per_arm_and_one_per_step(self, run: MeasuredRun) -> None:
        pytest.importorskip("pandas")
        arms, steps = run.to_pandas(), run.to_pandas(per="step")
        assert ["nocache", "cached (dynamic)"] == arms["arm"].tolist()
        assert run.arms[1].itl_s.value == arms["itl_s"][1]
        assert run.comparison is not None
        assert run.comparison.speedup.value == arms["speedup"][1]
        assert list(COLUMNS) == arms.columns.tolist()
        assert arms["folder"].isna().all()
        assert {run.run_id} == set(arms["run_id"]) == set(steps["run_id"])
        blocks, new_tokens = run.arms[0].itl_s.n, 4
        assert blocks * 2 * (new_tokens - 1) == len(steps)
        assert {"nocache", "cached (dynamic)"} == set(steps["arm_name"])
        assert [6, 7, 8] == sorted(set(steps["context_length"]))
        assert (steps["latency_s"] > 0).all()

    def test_tell_the_folder_of_a_run_that_has_one(self, run: MeasuredRun, tmp_path: Path) -> None:
        pytest.importorskip("pandas")
        folder = run.save(tmp_path)
        again = MeasuredRun.of(read_record(folder / "run.json"), InFolder(folder))
        assert [str(folder)] * 2 == again.to_pandas()["folder"].tolist()
        assert again.to_pandas("step").equals(run.to_pandas("step"))

    def test_in_polars_are_the_same(self, run: MeasuredRun) -> None:
        pytest.importorskip("polars")
        pytest.importorskip("pandas")
        for per in ("arm", "step"):
            assert run.to_pandas(per).columns.tolist() == run.to_polars(per).columns
            assert len(run.to_pandas(per)) == len(run.to_polars(per))

    @pytest.mark.parametrize("package", ["pandas", "polars"])
    def test_without_the_package_name_what_installs_it(
        self, run: MeasuredRun, package: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
        with pytest.raises(ConfigError, match=f"^to_{package} needs .* not installed: pip install {package}$"):
            getattr(run, f"to_{package}")()

    def test_of_something_else_are_refused(self, run: MeasuredRun) -> None:
        with pytest.raises(ConfigError, match="per='block': not known; allowed: arm, step"):
            run.to_pandas("block")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="measure with step_lane=True"):
            measured("measure.step_lane=false").to_pandas("step")


class TestSaving:
    def test_writes_the_folder_that_the_command_line_writes(
        self, shell: Callable[..., tuple[int, str]], tmp_path: Path
    ) -> None:
        short = ("workload.prompt_tokens=5", "workload.new_tokens=4")
        assert 0 == shell(*SCRIPTED, *short, "results_dir=typed")[0]
        (typed,) = (tmp_path / "typed" / "scripted").iterdir()
        run = measured()
        saved = run.save("called")
        assert Path("called") / "scripted" / run.run_id == saved
        names = [sorted(file.name for file in folder.iterdir()) for folder in (typed, saved)]
        assert [name for name in names[0] if name != "stdout.log"] == names[1]
        for name, own in (("config.yaml", ("results_dir", "launch", "report")), ("prompts.jsonl", ("{{",))):
            kept = [
                [line for line in (folder / name).read_text().splitlines() if not line.startswith(own)]
                for folder in (typed, saved)
            ]
            assert kept[0] == kept[1]
        assert len((typed / "blocks.jsonl").read_text().splitlines()) == len(
            (saved / "blocks.jsonl").read_text().splitlines()
        )
        assert read_record(saved / "run.json") == run

    def test_is_read_by_every_command(self, run: MeasuredRun, shell: Callable[..., tuple[int, str]]) -> None:
        saved = str(run.save())
        for typed in (("show", saved), ("show", "last"), ("report", "last"), ("export", saved, "--format", "csv")):
            assert 0 == shell(*typed)[0]
        assert 4 == shell("compare", saved, saved)[0]  # one run a side is too few for a verdict

    def test_twice_in_one_place_is_refused(self, run: MeasuredRun, tmp_path: Path) -> None:
        run.save(tmp_path)
        with pytest.raises(RecordError, match="exists already"):
            run.save(tmp_path)

    def test_of_a_run_that_has_its_folder_is_a_copy(self, run: MeasuredRun, tmp_path: Path) -> None:
        first = run.save(tmp_path / "first")
        again = MeasuredRun.of(read_record(first / "run.json"), InFolder(first))
        second = again.save(tmp_path / "second")
        assert (tmp_path / "second" / "scripted" / run.run_id) == second
        assert sorted(file.name for file in first.iterdir()) == sorted(file.name for file in second.iterdir())
        assert run._repr_html_() == again._repr_html_()

    def test_writes_the_report_alone_where_it_is_wanted(self, run: MeasuredRun, tmp_path: Path) -> None:
        assert tmp_path / "page.html" == run.report(tmp_path / "page.html")
        assert tmp_path / "report.html" == run.report(tmp_path)
        assert ["page.html", "report.html"] == sorted(file.name for file in tmp_path.iterdir())
        assert "cached (dynamic) decodes" in (tmp_path / "page.html").read_text(encoding="utf-8")
        with pytest.raises(RecordError, match="cannot write"):
            run.report(tmp_path / "nowhere" / "page.html")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestProgress:
    def tell(self, *, quiet: bool = False) -> None:
        with ProgressLine(quiet=quiet) as line:
            line.hear(Progress("loading", 0, None))
            line.hear("something else")
            line.hear(Progress("blocks", 2, 8))

    def test_is_a_line_of_the_terminal_that_is_gone_at_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        self.tell()
        lines = terminal.getvalue().split("\r\x1b[K")
        assert ["", "kvbench: loading … ", "kvbench: blocks, 3 of 8 … ", ""] == [
            re.sub(r"[\d.,]+ .?s$", "", line) for line in lines
        ]
        assert "\n" not in terminal.getvalue()

    @pytest.mark.parametrize(("stream", "quiet"), [(Terminal, True), (io.StringIO, False)])
    def test_is_none_when_quiet_or_in_a_file(
        self, stream: type[io.StringIO], quiet: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stderr", written := stream())
        self.tell(quiet=quiet)
        assert "" == written.getvalue()

    def test_is_one_output_of_a_notebook_that_is_updated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[str] = []

        def display(said: dict[str, str], *, raw: bool, display_id: bool) -> Any:
            assert raw
            assert display_id
            shown.append(said["text/plain"])
            return SimpleNamespace(update=lambda said, raw: shown.append(said["text/plain"]))

        ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        self.tell()
        assert ["kvbench: loading", "kvbench: blocks, 3 of 8", "kvbench measured for"] == [
            re.sub(r" …? ?[\d.,]+ .?s$", "", line) for line in shown
        ]
        assert "" == terminal.getvalue()
