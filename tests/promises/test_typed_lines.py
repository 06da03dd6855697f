"""Whatever is typed ends in one line and an exit code of its own: extremes, grammar, circles, lists without end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzzed_commands import cases, runner
from fuzzing import fuzz
from runs import SCRIPTED

from kvbench.text import LONGEST_ECHO

Run = Callable[..., tuple[int, str, str]]

LINES = {
    ("arms.0.mode=cached",): "reaches into a list that is not there",
    ("-m", "measure.seed=range(0,10,0)"): "measure.seed=range(0,10,0): not a list of values",
    ("-m", "measure.seed=range(0,1e400)"): "more than 100,000 points",
    ("-m", "measure.seed=range(0,1000)", "model.seed=range(0,1000)"): "more than 100,000 points",
    ("-m", f"measure.seed={'9' * 5000}"): "a number of more digits than Python reads",
    (f"model.options={'[' * 200}{']' * 200}",): "nested deeper than 40",
    (f"engine={'[' * 5000}",): "nested deeper than 40",
    (f"results_dir={'a' * 300}",): "longer than any file system takes",
    (f"name={'a' * 100_000}",): "(100,000 characters)",
    ("name=..",): "name=..: must be a single folder name",
    ("model.name=../../x",): "model.name=../../x: must be a single folder name",
    ("name=${x}",): "name: refers to ${x}, and there is no such key",
    ("name=${name}",): "name: refers to itself",
    ("name=${oc.env:NO_SUCH_VARIABLE}",): "name: the environment variable NO_SUCH_VARIABLE is not set",
    ("~measure.blocks",): "~measure.blocks: is always there",
    ("engine=null",): "engine=null: takes one choice",
    ("hydra.searchpath=[file:///nowhere]",): "hydra.searchpath: /nowhere: no such folder",
    ("workload.prompts=/dev/zero",): "workload.prompts=/dev/zero: not an ordinary file",
    ("model.drift=-0.99", "measure.stopping=budget"): "the times would fall below 0",
    ("model.fail_with=hang", "model.fail_at_step=2"): "would never end by itself",
    ("model.cached_step_s=1e300",): "must be at most",
    ("model.cached_step_s=1e-300",): "must be at least",
    ("measure.blocks=10000000000",): "must be at most",
    ("measure.timeout_s=1e300", "launch=worker"): "must be at most",
    ("mode=a\tb",): "mode=a b: not known",
    ("name=\udcff",): "",
}


@pytest.mark.parametrize("words", LINES, ids=lambda words: words[-1][:30].encode("ascii", "replace").decode())
def test_is_answered_in_one_printable_line(run_kvbench: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    code, out, err = run_kvbench(*SCRIPTED, *words)
    assert (2, "", 1) == (code, out, len(err.splitlines())), err
    assert LINES[words] in err
    assert err.removesuffix("\n").isprintable()
    assert len(err) < 2 * LONGEST_ECHO + 200
    assert [] == list(tmp_path.iterdir())


@pytest.mark.slow
def test_any_line_ends_as_a_command_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counts = fuzz(cases(), runner(tmp_path), 150, seed=17)
    assert {} == counts.faults, counts.table()


class TestARunWhoseSequencesEndAtOnce:
    ENDED = ("workload.prompt_tokens=5", "workload.new_tokens=4", f"workload.stop=[{ord('a') + 5}]")

    @pytest.mark.parametrize("more", [(), ("audit=true",), ("mode=cached",)], ids=["two arms", "audited", "one arm"])
    def test_is_invalid_and_says_why(self, scripted: Callable[..., dict], more: tuple[str, ...]) -> None:
        record = scripted(*self.ENDED, *more, code=3)
        (check,) = (check for check in record["checks"] if not check["passed"])
        assert "decode_steps" == check["name"]
        assert "every sequence ended with its first token" in check["detail"]
        assert all("decode_steps: " in comparison["reasons"][0] for comparison in record["comparisons"])

    def test_is_not_called_one_that_keeps_something(self, scripted: Callable[..., dict]) -> None:
        audits = scripted(*self.ENDED, "audit=true", code=3)["audits"]
        fresh = [audit for audit in audits if audit["name"] == "fresh_prompts"]
        assert [None, None] == [audit["passed"] for audit in fresh]
        assert all("not judged: with workload.stop" in audit["detail"] for audit in fresh)


def test_a_defect_in_making_figures_costs_no_record(
    scripted: Callable[..., dict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kvbench import point

    monkeypatch.setattr(point, "assemble", lambda *_, **__: 1 // 0)
    record = scripted("workload.prompt_tokens=5", code=1)
    assert "failed" == record["status"]
    assert "ZeroDivisionError" in record["status_reason"]
    (log,) = tmp_path.rglob("stdout.log")
    assert "Traceback (most recent call last)" in log.read_text()
    assert 8 == len((log.parent / "blocks.jsonl").read_text().splitlines())
