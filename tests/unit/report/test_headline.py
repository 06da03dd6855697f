"""What a run answers first follows the kind of run, and is the same on every screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from kvbench.records.arm_figures import Turn
from kvbench.records.part import Estimate
from kvbench.records.run_record import RunRecord
from kvbench.records.scaling import BreakEven, Frontier, FrontierEdge, FrontierTry
from kvbench.report.console import answer, comparison_table, outcome_lines
from kvbench.report.exports.formats import markdown
from kvbench.report.page.html import build
from kvbench.report.verdicts import headlines, run_kind

from .chart_records import grown
from .records import invalid, one_arm, two_arms, write_run


def edge(arm: int, found: int) -> FrontierEdge:
    tries = tuple(
        FrontierTry(size=size, outcome=outcome, peak_bytes=None, seconds=1.0)
        for size, outcome in ((found, "fits"), (found + 1, "oom"))
    )
    known = {"axis": "context", "fixed": 1, "predicted": None, "error": None, "detail": ""}
    return FrontierEdge(arm=arm, found=found, found_above=found + 1, tries=tries, **known)


def sizes(arms: int) -> RunRecord:
    run = two_arms() if arms == 2 else one_arm()
    found = Frontier(limit_bytes=2**30, edges=tuple(edge(arm, 4096 - arm * 1024) for arm in range(arms)))
    return run.model_copy(update={"frontier": found, "comparisons": (), "comparison": None})


def scaling() -> RunRecord:
    found = BreakEven(
        baseline_arm=0,
        candidate_arm=1,
        context_length=1100.0,
        ci_low=1000.0,
        ci_high=1200.0,
        level=0.95,
        detail="from about 1,100 tokens on a step of cached is faster than one of nocache",
    )
    run = grown()
    assert run.growth is not None
    return run.model_copy(update={"growth": run.growth.model_copy(update={"break_evens": (found,)})})


def conversation() -> RunRecord:
    run = two_arms()
    turns = [
        tuple(
            Turn(
                step=step,
                context_length=256 + step,
                submitted_tokens=1,
                ttft_s=Estimate(estimator="", value=seconds, ci_low=seconds, ci_high=seconds, level=0.99, n=8),
                paid_back_after_tokens=None,
            )
            for step in (16, 32)
        )
        for seconds in (0.2, 0.012)
    ]
    arms = [arm.model_copy(update={"turns": each}) for arm, each in zip(run.arms, turns, strict=True)]
    arms[1] = arms[1].model_copy(update={"mode": "resumed"})
    return run.model_copy(update={"arms": tuple(arms)})


SAYS = {
    "sizes": (sizes(2), "At batch 1 nocache fits 4,096 tokens of context and cached (dynamic) 3,072"),
    "sizes of one arm": (sizes(1), "At batch 1 cached (dynamic) fits 4,096 tokens of context"),
    "break-even": (scaling(), "Break-even: from about 1,100 tokens on a step of cached is faster"),
    "turns": (
        conversation(),
        "Turn 2, at 272 tokens of context: the first token takes 200 ms [200, 200] with nocache and 12.0 ms"
        " [12.0, 12.0] with resumed (dynamic).",
    ),
}


def terminal(record: RunRecord) -> str:
    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        console.print(comparison_table(record))
        console.print(answer(record))
    return captured.get()


def page(record: RunRecord, folder: Path) -> str:
    build([write_run(record, folder / "run")], folder / "report.html")
    return (folder / "report.html").read_text()


@pytest.mark.parametrize("kind", SAYS)
def test_every_screen_says_what_the_run_was_made_to_find_out(kind: str, tmp_path: Path) -> None:
    record, sentence = SAYS[kind]
    assert sentence in headlines(record)[0].sentence
    assert sentence in outcome_lines(record)[0]
    assert sentence in " ".join(terminal(record).split())
    assert sentence in markdown([record]).replace("\\", "")
    whole = page(record, tmp_path)
    assert sentence in whole.partition('aria-label="Answers"')[0]
    assert "nothing to compare" not in whole


def test_the_figure_in_large_letters_is_the_kind_s_own(tmp_path: Path) -> None:
    figures = {kind: headlines(record)[0].figure for kind, (record, _) in SAYS.items()}
    assert {"sizes": "", "sizes of one arm": "", "break-even": "1,100 tokens", "turns": "12.0 ms"} == figures
    assert '<p class="speedup"><span id="run-1-figure">1,100 tokens</span>' in page(scaling(), tmp_path)
    assert ("speed-up", "3.42×") == (run_kind(two_arms()), headlines(two_arms())[0].figure)


def test_one_arm_says_its_own_speed() -> None:
    assert "tok/s" in headlines(one_arm())[0].sentence


def test_what_is_not_a_result_has_no_headline() -> None:
    assert () == headlines(invalid())
