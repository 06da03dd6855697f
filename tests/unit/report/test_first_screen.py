"""The first screen: title, the answer of the kind of run, one sentence for all arms that agree, and the best arm."""

import json

import pytest

from kvbench.records.run_record import RunRecord
from kvbench.report.best import best_of
from kvbench.report.charts.choice import ANSWERS
from kvbench.report.first_screen import first_screen, title_of
from kvbench.report.page.differences import output
from kvbench.report.page.glance import glance
from kvbench.report.page.html import build
from kvbench.report.page.illustration import picture

from .records import arm, comparison, estimate, invalid, one_arm, two_arms, write_run


def three_arms(second=2.5, verdicts=("FASTER", "FASTER"), **changes):
    arms = [arm("nocache"), arm("cached"), arm("generate", itl_s=estimate(0.0012))]
    other = comparison()["speedup"] | {"value": second, "ci_low": second - 0.1, "ci_high": second + 0.1}
    pairs = [comparison(verdict=verdicts[0]), comparison(candidate_arm=2, speedup=other, verdict=verdicts[1])]
    return two_arms(arms=arms, comparisons=pairs, **changes)


def judged(record, *verdicts, **changes):
    data = json.loads(record.model_dump_json())
    for pair, verdict in zip(data["comparisons"], verdicts, strict=True):
        pair["agreement"] |= {"verdict": verdict, **changes}
    return RunRecord.model_validate_json(json.dumps(data))


def test_a_run_is_called_what_its_configuration_says_or_else_by_its_arms():
    assert "embedded: nocache, cached (dynamic)" == title_of(two_arms())
    assert "Why one token suffices" == title_of(two_arms(config={"title": "Why one token suffices"}))


def test_one_candidate_has_its_answer_and_many_have_the_fastest_of_them():
    (one, many) = (first_screen(two_arms()), first_screen(three_arms()))
    assert ("3.42×", "cached (dynamic) decodes 3.42× as fast as nocache.") == (one.figure, one.sentence)
    said = "The fastest of 3 arms is cached (dynamic): it decodes 3.42× as fast as nocache."
    assert said == many.sentence
    assert ("1 warning", "95 % interval 3.38 to 3.47, 8 blocks") == (one.warnings, one.interval)


@pytest.mark.parametrize(
    ("second", "verdicts", "said"),
    [
        (3.4, ("FASTER", "FASTER"), "cached (dynamic) and generate are the fastest of 3 arms and cannot be told apart"),
        (9.9, ("FASTER", "AMBIGUOUS"), "The fastest of 3 arms is cached (dynamic)"),
        (0.5, ("SAME", "SLOWER"), "No arm is faster than nocache"),
        (9.9, ("SAME", "AMBIGUOUS"), "Whether any arm is faster than nocache cannot be told"),
    ],
)
def test_no_arm_is_called_the_fastest_that_may_not_be(second, verdicts, said):
    assert said in first_screen(three_arms(second, verdicts)).sentence


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("SLOWER", "cached (dynamic) is slower: it decodes 3.42× as fast as nocache."),
        ("SAME", "cached (dynamic) decodes as fast as nocache: the difference is within ±1 %."),
        ("AMBIGUOUS", "but the interval is too wide for a verdict"),
    ],
)
def test_every_verdict_has_a_sentence(verdict, said):
    assert said in first_screen(two_arms(pair=comparison(verdict=verdict))).sentence


def test_a_figure_without_a_verdict_is_not_set_in_large_letters():
    shown = first_screen(two_arms(pair=comparison(verdict="AMBIGUOUS")))
    assert ("no verdict yet", "3.42×, 95 % interval 3.38 to 3.47, 8 blocks") == (shown.figure, shown.interval)


def test_random_weights_are_told_beside_what_they_make_doubtful():
    warned = two_arms(warnings=[{"code": "random_weights", "detail": "the weights are random"}])
    (said,) = [each for each in first_screen(warned).beside if "random" in each]
    assert "a broken cache could go unnoticed" in said
    assert not [each for each in first_screen(two_arms()).beside if "random" in each]


def test_arms_that_agree_share_a_sentence_and_others_are_named():
    same = judged(three_arms(), "IDENTICAL", "IDENTICAL")
    assert "Output of all 2 other arms against nocache: same output." in first_screen(same).beside
    apart = first_screen(judged(three_arms(), "IDENTICAL", "MISMATCH")).beside
    assert "Output of generate: different output." in apart
    assert "A speed-up does not count if the output differs or was not checked." in apart


def test_what_is_not_valid_has_no_figure_and_one_reason():
    screen = first_screen(invalid())
    assert ("", "Not a result: mode_proof: 3 steps of cached submitted something else.") == (
        screen.figure,
        screen.sentence,
    )


def test_the_best_is_marked_with_those_whose_intervals_reach_it_and_never_all():
    assert {1} == best_of([(1, 0.9, 1.1), (3, 2.9, 3.1), None], "higher")
    assert {0, 2} == best_of([(1, 0.9, 1.1), (3, 2.9, 3.1), (1.15, 1.05, 1.2)], "lower")
    assert set() == best_of([(1, 0.9, 1.1), (1.1, 1, 1.2)], "higher")
    assert set() == best_of([(1, 0.9, 1.1)], "higher")


def test_an_arm_is_a_row_and_the_baseline_has_no_verdict():
    table = glance(three_arms())
    assert ["nocache", "cached (dynamic)", "generate"] == [name for name, _ in table.rows]
    titles = [head.title for head in table.heads]
    assert ["speed-up", "verdict", "output"] == titles[:3]
    (baseline, cached, _) = (cells for _, cells in table.rows)
    assert ["1×", "", ""] == [cell.text for cell in baseline[:3]]
    assert ("3.42× [3.38, 3.47]", True) == (cached[0].text, cached[0].best)
    assert glance(one_arm()).rows[0][0] == "cached (dynamic)"


def test_nothing_is_the_best_of_a_run_that_is_not_valid():
    assert not any(cell.best for _, cells in glance(invalid()).rows for cell in cells)


def test_a_mismatch_shows_the_first_difference_of_the_texts_and_its_cause():
    arms = [arm("nocache", text="one two three"), arm("cached", text="one two four")]
    found = output(judged(two_arms(arms=arms), "MISMATCH", cause="its keys differ at position 3"))
    (difference,) = found.differences
    assert "Cause: its keys differ at position 3." == difference.cause
    assert "Prompt 1: the texts differ from character 9 on." == difference.place
    assert [("one two ", "three"), ("one two ", "four")] == [(side.same, side.other) for side in difference.sides]


def test_a_mismatch_of_the_logits_alone_says_so():
    (difference,) = output(judged(two_arms(), "MISMATCH")).differences
    assert () == difference.sides
    assert "All arms wrote the same text" in difference.place


def test_text_after_the_end_token_is_told_apart(tmp_path):
    record = two_arms(arms=[arm("nocache", text="yes. and on"), arm("cached", text="yes. and on", text_ends=[4])])
    build([write_run(record, tmp_path / "run")], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert 'yes.<span class="after-end"> and on</span></pre>' in page
    assert "Grey: after the model" in page


def test_every_kind_of_run_names_its_one_chart():
    assert {"latency", "frontier", "turns"} == set(ANSWERS.values())


def test_the_picture_tells_what_this_run_computes_and_draws_what_can_be_counted():
    found = picture(two_arms(prompt=3, new=7))
    assert "3 prompt and 7 new tokens, nocache computes 42 positions and cached 9." in found.sentence
    long = picture(two_arms(prompt=128, new=48))
    assert f"nocache computes {sum(range(128, 176)):,} positions and cached {128 + 47}." in long.sentence
    assert len(long.light) < 15_000
    assert picture(one_arm()) is None
