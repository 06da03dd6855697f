import pyarrow
import pyarrow.parquet
import pytest

from kvbench.records.samples import Prepared
from kvbench.records.step_table import step_table
from kvbench.records.untimed import TracedPass, TracedToken
from kvbench.report.page.html import build
from kvbench.report.page.texts import LEAST_CONFIDENT, MOST_MAPPED_PROMPTS, MOST_TOKENS, confidence

from .records import HOSTILE, arm, one_arm, two_arms, write_run
from .test_html import Page


def token(text, probability=0.9, *, number=65, rank=1):
    return TracedToken(number, text, probability, rank, 0.4, ((number, text or "<eos>", 0.9), (99, "other", 0.05)))


def table(*arms, prompts=1):
    """One traced pass an arm; each arm is a list of sequences of tokens."""
    passes = [TracedPass(number, tuple(map(tuple, sequences))) for number, sequences in enumerate(arms)]
    prepared = Prepared(
        model={},
        environment={},
        prompts=tuple({"text": "", "token_ids": [0] * 5} for _ in range(prompts)),
        batches=tuple((prompt,) for prompt in range(prompts)),
        load_s=0.0,
    )
    return step_table((), prepared, passes, run_id="a run")


def traced_page(tmp_path, record, trace, **folder):
    run = write_run(record, tmp_path / "run", **folder)
    pyarrow.parquet.write_table(trace, run.folder / "steps.parquet")
    build([run], tmp_path / "report.html")
    return Page(tmp_path / "report.html")


def tokens_of(page):
    return [given for tag, given in page.tags if tag == "span" and given.get("class", "").split(" ")[0] == "token"]


def test_every_token_has_its_colour_its_figures_and_its_alternatives(tmp_path):
    sequence = [token("The", 0.31, rank=1), token(" cache", 0.004, number=70, rank=3), token("", 1.0, number=1)]
    page = traced_page(tmp_path, one_arm(), table([sequence]))
    the, cache, end = tokens_of(page)
    assert ("--sure:31%", "--sure:0%", "--sure:100%") == (the["style"], cache["style"], end["style"])
    assert "token" == the["class"]
    assert "token second" == cache["class"]
    assert "token named" == end["class"]
    assert [
        "“ cache”: probability 0.4 %, rank 3, entropy 0.400 nats",
        "likeliest: “ cache” 90.0 %, “other” 5.0 %",
    ] == cache["title"].replace("\u00a0", " ").splitlines()
    assert "The cache<eos>" in "".join(page.text)


def test_a_token_without_a_finite_probability_has_no_colour(tmp_path):
    (only,) = tokens_of(traced_page(tmp_path, one_arm(), table([[token("x", None)]])))
    assert "style" not in only
    assert "probability —" in only["title"]


def test_hostile_tokens_are_shown_and_never_obeyed(tmp_path):
    attacks = [TracedToken(7, text, 0.5, 1, 0.1, ((7, text, 0.5),)) for text in HOSTILE]
    harmless = len(traced_page(tmp_path / "harmless", one_arm(), table([[token("x")]])).scripts)
    page = traced_page(tmp_path, one_arm(), table([attacks]), prompts=HOSTILE[:1])
    assert not [tag for tag, given in page.tags if tag == "img" or "onerror" in given]
    assert harmless == len(page.scripts)
    assert len(HOSTILE) == len(tokens_of(page))
    everything = "".join(page.text) + "".join(each["title"] for each in tokens_of(page))
    assert not {"\x1b", "\x9b", "\x07", "\u202e", "\u2066", "\u2028"} & set(everything)
    assert HOSTILE[0] in everything


def test_arms_of_equal_tokens_share_a_map_and_their_difference_is_told():
    one, other = [token("a", 0.5)], [token("a", 0.53)]
    said = confidence(two_arms(), table([one], [other]), ["p"])
    (prompt,) = said.prompts
    assert ["nocache, cached (dynamic)"] == [each.arms for each in prompt.maps]
    assert "differ by at most 0.03" in said.note
    assert ["all"] == [doubt.arms for doubt in said.doubts]


def test_arms_of_different_tokens_have_a_map_each():
    said = confidence(two_arms(), table([[token("a")]], [[token("b", number=66)]]), ["p"])
    assert ["nocache", "cached (dynamic)"] == [each.arms for each in said.prompts[0].maps]
    assert "share a map" not in said.note
    assert [("nocache", "a"), ("cached (dynamic)", "b")] == [(doubt.arms, doubt.token) for doubt in said.doubts]


def test_the_least_confident_tokens_come_from_all_prompts_lowest_first():
    count = MOST_MAPPED_PROMPTS + 10
    sequences = [[token("12", 1.0), token(f"t{n}", 0.9 - n / 100)] for n in range(count)]
    said = confidence(one_arm(), table(sequences, prompts=count), [])
    assert LEAST_CONFIDENT == len(said.doubts)
    assert (count, 1, "12", f"t{count - 1}") == (
        (first := said.doubts[0]).prompt,
        first.step,
        first.before,
        first.token,
    )
    assert [f"t{n}" for n in range(count - 1, count - 1 - LEAST_CONFIDENT, -1)] == [each.token for each in said.doubts]


def test_what_is_left_out_is_said():
    long = [token("x")] * (MOST_TOKENS + 5)
    said = confidence(one_arm(), table([long] * (MOST_MAPPED_PROMPTS + 2), prompts=MOST_MAPPED_PROMPTS + 2), [])
    assert MOST_MAPPED_PROMPTS == len(said.prompts)
    assert f"The first {MOST_MAPPED_PROMPTS} of {MOST_MAPPED_PROMPTS + 2} prompts" in said.note
    (drawn,) = said.prompts[0].maps
    assert (MOST_TOKENS, 5) == (len(drawn.tokens), drawn.left_out)


def test_a_page_of_many_runs_draws_fewer_tokens_of_each():
    trace = table([[token("x")] * 200] * 6, prompts=6)
    drawn = [
        sum(len(each.tokens) for prompt in confidence(one_arm(), trace, [], of=of).prompts for each in prompt.maps)
        for of in (1, 20, 10_000)
    ]
    assert [1200, 300, 0] == drawn


def test_a_run_without_a_trace_has_no_such_part(tmp_path):
    run = write_run(two_arms(), tmp_path / "run")
    build([run], tmp_path / "report.html")
    assert "Token confidence" not in Page(tmp_path / "report.html").words


def test_traced_tokens_do_not_reach_the_charts_of_steps(tmp_path):
    # Their latencies are null: the page once failed on them.
    page = traced_page(tmp_path, one_arm(arms=[arm("cached")]), table([[token("a")]]))
    assert "run-1-latency" not in page.figures
    assert "The single decode steps were not kept" in page.words


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(1.0, "100 %"), (0.9999999, "99.999 %"), (0.995, "99.500 %"), (0.5, "50.0 %"), (0.0012, "0.12 %"), (0.0, "0.0 %")],
)
def test_a_probability_is_certain_only_when_it_is(probability, shown):
    said = confidence(one_arm(), table([[token("a", probability)]]), [])
    assert shown == said.doubts[0].probability.replace("\u00a0", " ")
