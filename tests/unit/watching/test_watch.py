"""What a watch promises of itself: it leaves nothing behind, keeps no text, and says what it cost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

import kvbench
from kvbench.errors import ConfigError
from kvbench.watching import findings, words
from kvbench.watching.between_passes import MOVES, READS
from kvbench.watching.findings import Finding
from kvbench.watching.generations import generations_of
from kvbench.watching.hooks import chain_of
from kvbench.watching.pass_writer import PassWriter
from kvbench.watching.seen_pass import Gap, GenerateCall, Observation, SeenPass, WatchedModel
from kvbench.watching.words import ENGLISH, sentence


@pytest.fixture
def model(tiny_model: Callable[..., Any]) -> Any:
    return tiny_model("llama", num_hidden_layers=1)


IDS = torch.arange(3, 13).unsqueeze(0)


def decode(model: Any, tokens: int = 4) -> None:
    model.generate(IDS, max_new_tokens=tokens, do_sample=False, eos_token_id=None)


def state_of(model: Any) -> list[Any]:
    """All that a watch touches."""
    methods = [vars(torch.Tensor).get(name) for name in (*READS, *MOVES)]
    tokenizers = [vars(PreTrainedTokenizerBase)[name] for name in ("decode", "__call__")]
    hooks = [dict(model._forward_hooks), dict(model._forward_pre_hooks), dict(model._forward_hooks_always_called)]
    return [methods, tokenizers, hooks, sorted(model.__dict__), model.generate]


class TestAtItsEnd:
    def test_nothing_is_left_in_the_model_or_in_torch(self, model: Any) -> None:
        before = state_of(model)
        with kvbench.watch(model):
            assert before != state_of(model)
            decode(model)
        assert before == state_of(model)

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    def test_nothing_is_left_after_an_error_and_what_was_seen_is_told(
        self, model: Any, error: type[BaseException]
    ) -> None:
        before = state_of(model)
        seen = kvbench.watch(model)

        def fail() -> None:
            with seen:
                decode(model)
                raise error

        with pytest.raises(error):
            fail()
        assert before == state_of(model)
        assert 4 == len(seen.record.passes)

    def test_an_interrupt_inside_a_pass_hides_no_pass_behind_it(self, model: Any) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        with kvbench.watch(model) as seen:
            handle = model.model.register_forward_pre_hook(interrupt)
            with pytest.raises(KeyboardInterrupt):
                model(IDS)
            handle.remove()
            decode(model)
        assert 4 == len(seen.record.passes)
        assert ["cache_used"] == [each.code for each in seen.record.findings if each.code != "time_outside"]

    def test_one_watch_within_another_leaves_the_outer_one_on(self, tiny_model: Any, model: Any) -> None:
        other, before = tiny_model("llama"), state_of(model)
        with kvbench.watch(model) as outer:
            with kvbench.watch(other) as inner, kvbench.watch(model) as twice:
                decode(model)
                decode(other, 3)
            decode(model)
        assert [8, 3, 4] == [len(each.record.passes) for each in (outer, inner, twice)]
        assert before == state_of(model)


def test_generate_within_generate_is_part_of_the_outer_call(model: Any) -> None:
    hooks = PassWriter(chain_of(model))
    ended = hooks.calling(outer := GenerateCall(0))
    hooks.calling(GenerateCall(0))()
    hooks.begin(0, (IDS,), {})
    hooks.end(0, torch.zeros(1, 10, 97))
    ended()
    hooks.begin(0, (IDS,), {})
    hooks.end(0, torch.zeros(1, 10, 97))
    assert [outer, None] == [each.call for each in hooks.passes]


def test_generate_without_a_cache_is_told_whether_it_was_asked_for(model: Any) -> None:
    watched = WatchedModel("M", "float32", "cpu", "cache", keeps_logits=True, is_transformers=True)
    for use_cache, code in ((False, "cache_off_in_generate"), (None, "no_cache_in_generate")):
        passes, call = [], GenerateCall(0, use_cache=use_cache)
        for step in range(4):
            seen = SeenPass()
            seen.gap, seen.call, seen.submitted = Gap(), call, 10 + step
            seen.began, seen.ended = step, step + 0.5
            passes.append(seen)
        observation = Observation(watched, tuple(passes), {}, {}, {}, wall_s=4.0, cost_s=0.0)
        (finding, *_) = findings.findings_of(observation, generations_of(passes))
        assert code == finding.code
        assert {"positions": 46, "needed": 13, "tokens": 4}.items() <= finding.arguments.items()


class TestWhatIsRead:
    def test_waits_for_the_end(self, model: Any) -> None:
        with kvbench.watch(model) as seen:
            decode(model)
            for read in (lambda: seen.record, lambda: seen.advice, seen.to_html, seen.measure):
                with pytest.raises(ConfigError, match="still on"):
                    read()
            assert "still on" in str(seen)
        assert seen.record.passes

    def test_is_plain_data_without_a_token_of_the_text(self, model: Any) -> None:
        with kvbench.watch(model) as seen:
            decode(model)
        plain = json.loads(json.dumps(seen.record.model_dump(mode="json")))
        assert (10, 1, 1, 1) == tuple(each["submitted"] for each in plain["passes"])
        assert (0, 10, 11, 12) == tuple(each["past"] for each in plain["passes"])
        assert "ids" not in re.findall(r'"(\w+)":', json.dumps(plain))

    def test_adds_up(self, model: Any) -> None:
        with kvbench.watch(model) as seen:
            decode(model, 6)
        record = seen.record
        (generation,) = record.generations
        assert sum(each.rows * each.submitted for each in record.passes) == generation.positions
        assert pytest.approx(generation.model_s) == sum(each.model_s for each in record.passes)
        assert 0 < generation.model_s <= generation.wall_s <= record.wall_s
        assert 0 < record.cost_s < record.wall_s
        assert pytest.approx(record.cost_s / generation.wall_s) == record.cost_share

    def test_says_what_watching_took(self, model: Any) -> None:
        with kvbench.watch(model) as seen:
            decode(model)
        assert re.search(r"The watch's own code took [\d.]+ .?s, [\d.]+ % of the time\.$", str(seen))

    def test_is_a_page_that_loads_nothing_and_escapes_all(self, model: Any) -> None:
        type(model).__name__, name = "<script>", type(model).__name__
        try:
            with kvbench.watch(model) as seen:
                decode(model)
            page = seen.to_html()
        finally:
            type(model).__name__ = name
        assert (seen._repr_html_() or "?") in page
        assert "<script>" not in page
        assert "&lt;script&gt;" in page
        assert not re.search(r"src=|href=|url\(|@import", page)
        assert 4 == page.count("<rect")

    def test_in_a_notebook_styles_nothing_but_itself(self, model: Any) -> None:
        with kvbench.watch(model) as seen:
            decode(model)
            assert seen._repr_html_() is None  # while it is on
        styles = re.findall(r"<style>(.*?)</style>", seen._repr_html_() or "", re.DOTALL)
        selectors = re.findall(r"([^{}]+)\{", " ".join(styles))
        assert selectors
        assert all(each.strip().startswith(".kvbench-watch") for each in selectors)

    def test_of_thousands_of_texts_shows_the_first(self, model: Any) -> None:
        with kvbench.watch(model) as seen, torch.inference_mode():
            for _ in range(20):
                decode(model, 1)
        assert "… and 8 more" in str(seen)
        assert 20 == len(seen.record.generations)


class TestMeasure:
    def test_takes_the_lengths_that_were_seen(self, model: Any) -> None:
        with kvbench.watch(model) as seen:
            decode(model, 5)
        record = seen.measure(blocks=1, warmup=0, energy_s=0, step_lane=False)
        assert ((10,), 5, 1) == (
            record.workload.prompt_tokens,
            record.workload.new_tokens,
            record.workload.batch_size,
        )
        assert "Measured by kvbench at these lengths" in str(seen)
        assert "a loop with a cache takes" in str(seen)
        assert 2 == len(re.findall(r"^- (?:nocache|cached \(dynamic\)): [\d.]+ .?s$", str(seen), re.MULTILINE))

    def test_needs_a_generation(self, model: Any) -> None:
        with kvbench.watch(model) as seen:
            model(IDS)
        with pytest.raises(ConfigError, match="no decoding was seen"):
            seen.measure()


class TestWhatCannotBeWatched:
    @pytest.mark.parametrize("thing", ["gpt2", print, lambda ids: ids, partial(print), object()])
    def test_is_refused_in_a_sentence(self, thing: Any) -> None:
        with pytest.raises(ConfigError, match=r"kvbench\.watch: "):
            kvbench.watch(thing)


class TestSentences:
    def test_there_is_one_for_every_code_and_none_without(self) -> None:
        source = Path(findings.__file__).read_text(encoding="utf-8")
        named = set(re.findall(r'"([a-z_]+)"', source)) & ENGLISH.keys()
        ends = {f"{start}_{end}" for start in ("all_logits", "prompt_logits") for end in ("keep", "model")}
        assert ENGLISH.keys() == named | ends | {"measured"}

    @pytest.mark.parametrize("code", sorted(ENGLISH))
    def test_takes_the_figures_that_it_names(self, code: str) -> None:
        names = {name for _, name, _, _ in Formatter().parse(ENGLISH[code]) if name}
        for value in (1, 12345):
            text = sentence(Finding(code, dict.fromkeys(names, value)))
            assert text.endswith(".")
            assert "{" not in text

    def test_counts_in_the_singular_and_the_plural(self) -> None:
        one, many = (
            sentence(Finding("single_passes", {"passes": number})).partition(" over")[0] for number in (1, 1200)
        )
        assert ("1 pass", "1,200 passes") == (one, many)

    def test_may_be_of_another_language(self) -> None:
        other = {"single_passes": "{passes:,} 次"}
        assert "3 次" == words.sentence(Finding("single_passes", {"passes": 3}), other)
