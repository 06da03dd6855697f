"""Loops as people write them, each with the sentence that it gets."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from own_models import nano

import kvbench
from kvbench.models.signature import library_cache, returned_cache

PROMPT, TOKENS = 20, 12
WHOLE = sum(range(PROMPT, PROMPT + TOKENS))  # positions of a loop without a cache
ONCE = PROMPT + TOKENS - 1


@pytest.fixture
def model(tiny_model: Callable[..., Any]) -> Any:
    return tiny_model("llama")


@pytest.fixture
def ids() -> torch.Tensor:
    return prompt(PROMPT)


def prompt(tokens: int, *, rows: int = 1, seed: int = 3, begin: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    ids = torch.randint(3, 97, (rows, tokens))
    ids[:, 0] = begin
    return ids


def newest(out: Any) -> torch.Tensor:
    return out.logits[:, -1:].argmax(-1)


def seen_in(model: Any, loop: Callable[[], object]) -> Any:
    with kvbench.watch(model) as seen:
        loop()
    str(seen), seen.to_html()  # whatever was seen can be told
    return seen


def codes(seen: Any) -> set[str]:
    """What was found, but for what the times say, which is another story on every machine."""
    found = {finding.code for finding in seen.record.findings}
    return found - {"flat_steps", "time_outside", "saved_time", "saved_no_time"}


def said(seen: Any, code: str) -> str:
    (finding,) = (finding for finding in seen.record.findings if finding.code == code)
    return str(finding.text)


def cached_loop(model: Any, ids: torch.Tensor, tokens: int = TOKENS, cache: Any = None, **more: Any) -> Any:
    """The loop that is right. Returns its cache."""
    with torch.inference_mode():
        new = ids
        for _ in range(tokens):
            out = model(new, use_cache=True, logits_to_keep=1, **library_cache(cache), **more)
            cache, new = returned_cache(out), newest(out)
    return cache


def whole_text_loop(model: Any, ids: torch.Tensor, tokens: int = TOKENS, **arguments: Any) -> torch.Tensor:
    """The loop without a cache."""
    with torch.inference_mode():
        for _ in range(tokens):
            ids = torch.cat([ids, newest(model(ids, **{"use_cache": False, "logits_to_keep": 1, **arguments}))], dim=1)
    return ids


class TestGenerate:
    @pytest.mark.parametrize(
        ("settings", "code", "positions"),
        [
            ({"do_sample": False}, "cache_used", ONCE),
            ({"do_sample": True}, "cache_used", ONCE),
            ({"cache_implementation": "static"}, "cache_used", ONCE),
            ({"num_beams": 3}, "beams", 3 * ONCE),
            ({"use_cache": False}, "cache_off_in_generate", WHOLE),
        ],
        ids=["greedy", "sampling", "static", "beams", "no cache"],
    )
    def test_is_told_by_how_it_decodes(
        self, model: Any, ids: torch.Tensor, settings: dict[str, Any], code: str, positions: int
    ) -> None:
        model.generation_config.eos_token_id = None
        seen = seen_in(model, lambda: model.generate(ids, max_new_tokens=TOKENS, **settings))
        assert {code} == codes(seen)
        (generation,) = seen.record.generations
        assert (TOKENS, positions) == (generation.new_tokens, generation.positions)
        assert (code == "cache_off_in_generate") == bool(seen.advice)

    def test_without_a_cache_is_told_what_to_remove(self, model: Any, ids: torch.Tensor) -> None:
        model.generation_config.use_cache = False  # a checkpoint's file may say so
        seen = seen_in(model, lambda: model.generate(ids, max_new_tokens=TOKENS, eos_token_id=None))
        text = said(seen, "cache_off_in_generate")
        assert f"{WHOLE:,} positions for 12 tokens, where {ONCE} would do. Remove use_cache=False" in text
        assert "test_loops.py:" in text

    def test_assisted_counts_the_tokens_of_a_step(self, model: Any, tiny_model: Any, ids: torch.Tensor) -> None:
        draft = tiny_model("llama")  # the same weights: everything that it proposes is accepted
        for each in (model, draft):
            each.generation_config.eos_token_id = None
        seen = seen_in(
            model, lambda: model.generate(ids, max_new_tokens=TOKENS, assistant_model=draft, do_sample=False)
        )
        assert {"assisted"} == codes(seen)
        (finding,) = seen.record.findings[:1]
        assert finding.arguments["tokens_per_step"] > 1
        assert seen.record.generations[0].new_tokens <= TOKENS
        assert len(seen.record.passes) < TOKENS  # those of the draft are not its own

    def test_in_chunks_has_a_prompt_of_several_passes(self, model: Any, ids: torch.Tensor) -> None:
        model.generation_config.eos_token_id = None
        seen = seen_in(model, lambda: model.generate(ids, max_new_tokens=TOKENS, prefill_chunk_size=6))
        (generation,) = seen.record.generations
        assert (4, PROMPT, TOKENS) == (generation.prompt_passes, generation.prompt_tokens, generation.new_tokens)
        assert {"cache_used"} == codes(seen)

    def test_by_a_pipeline_is_watched_through_the_pipeline(self, model: Any) -> None:
        from transformers import pipeline

        generator = pipeline("text-generation", model=model, tokenizer=words_tokenizer())
        model.generation_config.eos_token_id = None
        seen = seen_in(generator, lambda: generator("w5 w6 w7", max_new_tokens=TOKENS, do_sample=False))
        assert {"cache_used"} == codes(seen)
        assert (3, TOKENS) == (seen.record.generations[0].prompt_tokens, seen.record.generations[0].new_tokens)


def words_tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({f"w{number}": number for number in range(97)}, unk_token="w0"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w2", unk_token="w0")


class TestLoopByHand:
    def test_that_is_right_has_nothing_to_change(self, model: Any, ids: torch.Tensor) -> None:
        seen = seen_in(model, lambda: cached_loop(model, ids))
        assert {"cache_used"} == codes(seen)
        assert f"{ONCE} positions were submitted for 12 tokens, where a loop without one submits {WHOLE}" in str(seen)
        assert [] == [text for text in seen.advice if "per step, beside" not in text]

    def test_without_a_cache_is_told_what_would_do(self, model: Any, ids: torch.Tensor) -> None:
        seen = seen_in(model, lambda: whole_text_loop(model, ids))
        assert {"nothing_passed"} == codes(seen)
        text = said(seen, "nothing_passed")
        assert f"{WHOLE} positions for 12 tokens, where {ONCE} would do" in text
        assert text.endswith("with the newest token only.")

    def test_that_drops_the_cache_names_the_experiment(self, model: Any, ids: torch.Tensor) -> None:
        seen = seen_in(model, lambda: whole_text_loop(model, ids, use_cache=True))
        assert {"cache_dropped"} == codes(seen)
        assert "Keep out." in said(seen, "cache_dropped")
        assert said(seen, "cache_dropped").endswith("kvbench experiment=habits.")

    def test_that_passes_the_whole_text_beside_the_cache_reads_it_twice(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            text, cache = ids, None
            with torch.inference_mode():
                for _ in range(TOKENS):
                    out = model(text, use_cache=True, logits_to_keep=1, **library_cache(cache))
                    cache, text = returned_cache(out), torch.cat([text, newest(out)], dim=1)

        seen = seen_in(model, loop)
        assert {"text_beside_cache"} == codes(seen)
        assert said(seen, "text_beside_cache").endswith("Pass only the newest token: input_ids[:, -1:].")

    def test_with_an_empty_cache_at_every_step_is_told_to_make_it_once(self, model: Any, ids: torch.Tensor) -> None:
        from transformers import DynamicCache

        def loop() -> None:
            text = ids
            with torch.inference_mode():
                for _ in range(TOKENS):
                    cache = library_cache(DynamicCache(config=model.config))
                    text = torch.cat([text, newest(model(text, logits_to_keep=1, **cache))], dim=1)

        seen = seen_in(model, loop)
        assert {"new_cache_each_step"} == codes(seen)
        assert "Make the cache once, before the loop" in said(seen, "new_cache_each_step")

    def test_that_makes_a_new_cache_at_times_names_the_interruption(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            text, cache = ids, None
            with torch.inference_mode():
                for step in range(TOKENS):
                    if step % 4 == 0:
                        cache = None
                    new = text if cache is None else text[:, -1:]
                    out = model(new, use_cache=True, logits_to_keep=1, **library_cache(cache))
                    cache, text = returned_cache(out), torch.cat([text, newest(out)], dim=1)

        seen = seen_in(model, loop)
        assert {"cache_rebuilt"} == codes(seen)
        assert "2 of 11 steps submitted the whole text again" in said(seen, "cache_rebuilt")
        assert said(seen, "cache_rebuilt").endswith("experiment=interruption.")

    def test_that_submits_the_newest_token_alone_has_forgotten_the_text(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            new = ids
            with torch.inference_mode():
                for _ in range(TOKENS):
                    new = newest(model(new, use_cache=False, logits_to_keep=1))

        seen = seen_in(model, loop)
        assert {"past_forgotten"} == codes(seen)
        assert "the text is wrong" in said(seen, "past_forgotten")

    def test_over_a_window_of_the_text_has_no_cache_either(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            text = ids
            with torch.inference_mode():
                for _ in range(TOKENS):
                    out = model(text[:, -PROMPT:], use_cache=False, logits_to_keep=1)
                    text = torch.cat([text, newest(out)], dim=1)

        seen = seen_in(model, loop)
        assert {"nothing_passed"} == codes(seen)
        assert PROMPT * TOKENS == seen.record.generations[0].positions

    def test_over_a_padded_buffer_has_no_cache_either(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            buffer = torch.zeros((1, 40), dtype=torch.long)
            buffer[:, :PROMPT] = ids
            with torch.inference_mode():
                for place in range(PROMPT, PROMPT + TOKENS):
                    out = model(buffer, use_cache=False)
                    buffer[:, place] = out.logits[:, place - 1].argmax(-1)

        seen = seen_in(model, loop)
        assert {"nothing_passed", "all_logits_keep"} == codes(seen)
        assert 1 == len(seen.record.generations)

    def test_with_gradients_and_all_logits_hears_of_both(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            text = ids
            for _ in range(TOKENS):
                text = torch.cat([text, newest(model(text, use_cache=False))], dim=1)

        seen = seen_in(model, loop)
        assert {"nothing_passed", "gradients", "all_logits_keep"} == codes(seen)
        assert "torch.inference_mode()" in said(seen, "gradients")
        assert f"{WHOLE - PROMPT} rows of the vocabulary where 11 would do" in said(seen, "all_logits_keep")
        assert "Pass logits_to_keep=1." in said(seen, "all_logits_keep")

    def test_in_training_mode_is_told_to_evaluate_where_it_matters(self, tiny_model: Any, ids: torch.Tensor) -> None:
        for dropout, found in ((0.0, {"cache_used"}), (0.1, {"cache_used", "training_mode"})):
            model = tiny_model("llama", attention_dropout=dropout).train()
            assert found == codes(seen_in(model, lambda model=model: cached_loop(model, ids)))

    @pytest.mark.filterwarnings("ignore")
    def test_beside_gradient_checkpointing_is_told_why_no_cache_is_kept(self, model: Any, ids: torch.Tensor) -> None:
        model.train().gradient_checkpointing_enable()

        def loop() -> None:
            text = ids
            for _ in range(3):
                text = torch.cat([text, newest(model(text, use_cache=True, logits_to_keep=1))], dim=1)

        seen = seen_in(model, loop)
        assert {"nothing_passed", "checkpointing", "gradients"} == codes(seen)
        assert "whatever use_cache says" in said(seen, "checkpointing")

    def test_that_reads_every_token_is_told_where(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            new, cache = ids, None
            with torch.inference_mode():
                for _ in range(TOKENS):
                    out = model(new, use_cache=True, logits_to_keep=1, **library_cache(cache))
                    cache, new = returned_cache(out), newest(out)
                    if new.item() == 2:
                        pass

        seen = seen_in(model, loop)
        assert {"cache_used", "host_reads"} == codes(seen)
        assert "reads 1.0 values per step to Python (item at test_loops.py:" in said(seen, "host_reads")

    def test_that_decodes_the_whole_text_at_every_step_is_told_so(self, model: Any, ids: torch.Tensor) -> None:
        tokenizer = words_tokenizer()

        def loop() -> None:
            new, cache, text = ids, None, ids
            with torch.inference_mode():
                for _ in range(TOKENS):
                    out = model(new, use_cache=True, logits_to_keep=1, **library_cache(cache))
                    cache, new = returned_cache(out), newest(out)
                    text = torch.cat([text, new], dim=1)
                    tokenizer.decode(text[0])

        seen = seen_in(model, loop)
        assert {"cache_used", "decoded_again", "host_reads"} == codes(seen)
        assert f"decoded {sum(range(PROMPT + 1, PROMPT + TOKENS))} tokens in 11 calls" in said(seen, "decoded_again")

    def test_that_goes_through_text_at_every_step_is_told_to_append_ids(self, model: Any) -> None:
        tokenizer = words_tokenizer()

        def loop() -> None:
            text = "w5 w6 w7 w8"
            with torch.inference_mode():
                for _ in range(TOKENS):
                    out = model(tokenizer(text, return_tensors="pt").input_ids, use_cache=False, logits_to_keep=1)
                    text += " " + tokenizer.decode(newest(out)[0])

        seen = seen_in(model, loop)
        assert {"nothing_passed", "encoded_again", "host_reads"} == codes(seen)

    def test_that_casts_its_weights_at_every_step_is_told_to_do_it_once(self, model: Any, ids: torch.Tensor) -> None:
        weights = [torch.zeros(2, dtype=torch.float64) for _ in range(9)]

        def loop() -> None:
            new, cache = ids, None
            with torch.inference_mode():
                for _ in range(TOKENS):
                    out = model(new, use_cache=True, logits_to_keep=1, **library_cache(cache))
                    cache, new = returned_cache(out), newest(out)
                    [each.to(torch.float32) for each in weights]

        seen = seen_in(model, loop)
        assert {"cache_used", "casts"} == codes(seen)
        assert "9 tensors per step are converted to another type (to at test_loops.py:" in said(seen, "casts")

    def test_with_a_mask_of_the_newest_token_alone_is_wrong(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            new, cache = ids, None
            with torch.inference_mode():
                for _ in range(4):
                    mask = torch.ones_like(new)
                    out = model(new, attention_mask=mask, use_cache=True, logits_to_keep=1, **library_cache(cache))
                    cache, new = returned_cache(out), newest(out)

        seen = seen_in(model, loop)
        assert {"cache_used", "short_mask"} == codes(seen)
        assert "covers 1 of 21 positions" in said(seen, "short_mask")

    def test_of_a_batch_counts_all_its_sequences(self, model: Any) -> None:
        seen = seen_in(model, lambda: cached_loop(model, prompt(PROMPT, rows=3)))
        (generation,) = seen.record.generations
        assert (3, TOKENS, 3 * ONCE) == (generation.rows, generation.new_tokens, generation.positions)
        assert "for 36 tokens" in said(seen, "cache_used")

    def test_over_a_sliding_window_keeps_counting(self, tiny_model: Any, ids: torch.Tensor) -> None:
        model = tiny_model("mistral", sliding_window=8)
        seen = seen_in(model, lambda: cached_loop(model, ids))
        assert {"cache_used"} == codes(seen)
        assert [0, *range(PROMPT, ONCE)] == [each.past for each in seen.record.passes]

    def test_that_takes_the_prompt_in_chunks_is_one_text(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            cache = None
            with torch.inference_mode():
                for chunk in ids.split(5, dim=1):
                    out = model(chunk, use_cache=True, logits_to_keep=1, **library_cache(cache))
                    cache = returned_cache(out)
            cached_loop(model, newest(out), TOKENS - 1, cache)

        seen = seen_in(model, loop)
        (generation,) = seen.record.generations
        assert (4, PROMPT, TOKENS) == (generation.prompt_passes, generation.prompt_tokens, generation.new_tokens)

    def test_that_proposes_and_takes_back_is_speculative(self, model: Any, ids: torch.Tensor) -> None:
        def loop() -> None:
            with torch.inference_mode():
                cache = cached_loop(model, ids, 1)
                for _ in range(5):  # two of four are refused each time
                    model(ids[:, :4], use_cache=True, **library_cache(cache))
                    cache.crop(-2)

        seen = seen_in(model, loop)
        assert "assisted" in codes(seen)
        assert 2 == seen.record.findings[0].arguments["tokens_per_step"]


class TestSeveralTexts:
    def test_turns_that_start_again_compute_their_beginning_again(self, model: Any, ids: torch.Tensor) -> None:
        def chat() -> None:
            history = ids
            for turn in range(3):
                history = torch.cat([history, prompt(7, seed=turn)], dim=1)
                history = model.generate(history, max_new_tokens=4, eos_token_id=None, do_sample=False)

        seen = seen_in(model, chat)
        assert {"cache_used", "prefix_again"} == codes(seen)
        text = said(seen, "prefix_again")
        assert text.startswith("2 texts begin with tokens that an earlier one had computed")
        assert f"at least {27 + 38} of {38 + 49} prompt positions" in text
        assert text.endswith("experiment=conversation.")

    def test_a_conversation_that_keeps_its_cache_is_told_from_a_second_prompt(
        self, model: Any, ids: torch.Tensor
    ) -> None:
        def turns(second: torch.Tensor) -> Callable[[], None]:
            return lambda: cached_loop(model, second, 4, cached_loop(model, ids, 4)) and None

        assert {"cache_used", "cache_kept"} == codes(seen_in(model, turns(prompt(9, begin=50))))
        another = seen_in(model, turns(prompt(9, seed=8)))
        assert {"cache_used", "cache_shared"} == codes(another)
        assert "still held the 23 tokens of one text was handed to another" in said(another, "cache_shared")
        assert said(another, "cache_shared").endswith("Make a new cache for every prompt, or reset this one.")

    def test_a_history_beside_its_cache_is_read_twice(self, model: Any, ids: torch.Tensor) -> None:
        history = torch.cat([ids, prompt(13, seed=4)], dim=1)
        seen = seen_in(model, lambda: cached_loop(model, history, 4, cached_loop(model, ids, 4)))
        assert {"cache_used", "history_beside_cache"} == codes(seen)

    def test_the_same_prompt_again_is_a_repetition_and_no_fault(self, model: Any, ids: torch.Tensor) -> None:
        seen = seen_in(model, lambda: [cached_loop(model, ids, 4) for _ in range(3)])
        assert {"cache_used"} == codes(seen)
        assert 3 == len(seen.record.generations)

    def test_both_ways_in_one_watch_are_compared(self, model: Any, ids: torch.Tensor) -> None:
        seen = seen_in(model, lambda: (cached_loop(model, ids), whole_text_loop(model, ids)))
        compared = [each for each in seen.record.findings if each.code.startswith("saved_")]
        assert [(0, 1)] == [each.generations for each in compared]
        assert WHOLE / ONCE == compared[0].arguments["positions"]


class TestWhatIsNoDecoding:
    @pytest.mark.parametrize(("use_cache", "code"), [(False, "training"), (True, "training_builds_cache")])
    def test_a_training_step_is_told_that_it_is_none(
        self, model: Any, ids: torch.Tensor, use_cache: bool, code: str
    ) -> None:
        def steps() -> None:
            for seed in range(3):
                text = prompt(PROMPT, rows=2, seed=seed)
                model(text, labels=text, use_cache=use_cache).loss.backward()

        seen = seen_in(model.train(), steps)
        assert {code} == codes(seen)
        assert "this is training, which is not decoding" in said(seen, code)
        assert use_cache == bool(seen.advice)

    def test_a_loss_of_ones_own_is_training_too(self, model: Any, ids: torch.Tensor) -> None:
        seen = seen_in(model, lambda: model(ids, use_cache=False).logits.sum().backward())
        assert {"training"} == codes(seen)

    def test_scoring_texts_is_no_decoding_either(self, model: Any) -> None:
        def score() -> None:
            with torch.inference_mode():
                [model(prompt(PROMPT, seed=seed), use_cache=False) for seed in range(3)]

        seen = seen_in(model, score)
        assert {"single_passes"} == codes(seen)
        assert said(seen, "single_passes").startswith("3 passes over a whole text")

    def test_passes_that_raise_are_counted_and_nothing_else(self, model: Any, ids: torch.Tensor) -> None:
        def fail() -> None:
            with pytest.raises((TypeError, AttributeError)):
                model(ids, position_ids="first")

        seen = seen_in(model, fail)
        assert {"only_errors"} == codes(seen)

    def test_nothing_seen_tells_what_is_not_seen(self, model: Any, ids: torch.Tensor) -> None:
        with torch.inference_mode():
            seen = seen_in(model, lambda: model.forward(ids))
        assert {"nothing_seen"} == codes(seen)


class Plain(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(97, 8), torch.nn.Linear(8, 97)

    def forward(self, idx: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.head(self.embed(idx)), None  # as nanoGPT returns logits and loss


def plain_loop(model: Any, ids: torch.Tensor, tokens: int = TOKENS) -> Callable[[], None]:
    def loop() -> None:
        text = ids
        with torch.inference_mode():
            for _ in range(tokens):
                text = torch.cat([text, model(text)[0][:, -1:].argmax(-1)], dim=1)

    return loop


class TestWrapped:
    @pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's, of transformers
    def test_a_model_with_adapters_is_one_model(self, model: Any, ids: torch.Tensor) -> None:
        peft = pytest.importorskip("peft")
        wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
        wrapped.eval().generation_config.eos_token_id = None
        seen = seen_in(
            wrapped, lambda: (wrapped.generate(input_ids=ids, max_new_tokens=4), cached_loop(wrapped, ids, 4))
        )
        assert {"cache_used"} == codes(seen)
        assert [4, 4] == [each.passes for each in seen.record.generations]

    @pytest.mark.slow
    @pytest.mark.parametrize("in_place", [False, True], ids=["wrapped", "in place"])
    def test_a_compiled_model_is_seen_from_outside(self, model: Any, ids: torch.Tensor, in_place: bool) -> None:
        if in_place:
            model.compile(backend="eager")
        compiled = model if in_place else torch.compile(model, backend="eager")
        cached_loop(compiled, ids, 2)  # compiled without our hooks, as a script's model may be
        seen = seen_in(compiled, lambda: cached_loop(compiled, ids, 5))
        assert {"cache_used"} == codes(seen)
        assert [PROMPT, 1, 1, 1, 1] == [each.submitted for each in seen.record.passes]

    @pytest.mark.parametrize("in_place", [False, True], ids=["wrapped", "in place"])
    def test_a_compiled_module_of_ones_own_is_seen_from_outside(self, ids: torch.Tensor, in_place: bool) -> None:
        model = Plain().eval()
        if in_place:
            model.compile(backend="eager")
        compiled: Any = model if in_place else torch.compile(model, backend="eager")
        loop = plain_loop(compiled, ids[:, :4], 3)
        loop()  # compiled without our hooks, as a script's model may be
        seen = seen_in(compiled, loop)
        assert [4, 5, 6] == [each.submitted for each in seen.record.passes]
        assert "no_cache_argument" in codes(seen)
        loop()  # and goes on without the watch

    @pytest.mark.slow
    def test_a_step_that_generate_compiles_by_itself_is_seen_from_outside(self, model: Any, ids: torch.Tensor) -> None:
        from transformers import CompileConfig

        # What generate does by itself with a static cache on a GPU; a hook inside would break the whole graph.
        settings = CompileConfig(fullgraph=True, backend="eager", mode=None)
        settings._compile_all_devices = True
        model.generation_config.eos_token_id = None
        seen = seen_in(
            model,
            lambda: model.generate(ids, max_new_tokens=5, cache_implementation="static", compile_config=settings),
        )
        assert {"cache_used"} == codes(seen)
        assert hasattr(model, "_compiled_call")
        assert [(PROMPT, 0), (1, 20), (1, 21), (1, 22), (1, 23)] == [
            (each.submitted, each.past) for each in seen.record.passes
        ]

    def test_generate_of_a_wrapped_model_goes_round_the_compiler(self, model: Any, ids: torch.Tensor) -> None:
        compiled = torch.compile(model, backend="eager")
        seen = seen_in(compiled, lambda: compiled.generate(ids, max_new_tokens=4, eos_token_id=None))
        assert {"cache_used", "compiled_bypassed"} == codes(seen)
        assert "model.compile()" in said(seen, "compiled_bypassed")


class TestModelOfOnesOwn:
    @pytest.fixture
    def own(self) -> Any:
        space: dict[str, Any] = {"__name__": "nano"}
        exec(nano(), space)  # the README's own model
        torch.manual_seed(0)
        return SimpleNamespace(**space)

    def test_with_a_cache_is_watched_like_any_other(self, own: Any, ids: torch.Tensor) -> None:
        model = own.Nano().eval()

        def loop() -> None:
            new, cache = ids, model.new_cache(1)
            with torch.inference_mode():
                for _ in range(TOKENS):
                    new = model(new, cache)[:, -1:].argmax(-1)

        seen = seen_in(model, loop)
        assert "cache_used" in codes(seen)
        assert ONCE == seen.record.generations[0].positions

    def test_without_one_is_told_to_get_one(self, ids: torch.Tensor) -> None:
        model = Plain()
        seen = seen_in(model, plain_loop(model, ids))
        assert {"no_cache_argument", "all_logits_model"} == codes(seen)
        assert "kvbench/own_model.py" in said(seen, "no_cache_argument")

    def test_that_computes_its_past_again_inside_is_found_out(self, ids: torch.Tensor) -> None:
        class Hoarder(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embed, self.head = torch.nn.Embedding(97, 8), torch.nn.Linear(8, 97)

            def forward(self, ids: torch.Tensor, cache: dict[str, torch.Tensor]) -> torch.Tensor:
                cache["ids"] = torch.cat([cache["ids"], ids], dim=1) if "ids" in cache else ids
                return self.head(self.embed(cache["ids"]))[:, -1:]

        model, cache = Hoarder(), dict[str, torch.Tensor]()

        def loop() -> None:
            new = ids
            with torch.inference_mode():
                for _ in range(TOKENS):
                    new = model(new, cache).argmax(-1)

        seen = seen_in(model, loop)
        assert "computed_inside" in codes(seen)
        assert "computed 21 positions inside the model" in said(seen, "computed_inside")

    def test_that_is_no_module_is_watched_by_its_class(self, ids: torch.Tensor) -> None:
        class Counting:
            def __call__(self, ids: torch.Tensor) -> torch.Tensor:
                return torch.nn.functional.one_hot(ids, 97).float()

        model, other = Counting(), Counting()
        original = Counting.__call__

        def loop() -> None:
            text = ids
            for _ in range(4):
                other(text)
                text = torch.cat([text, model(text)[:, -1:].argmax(-1)], dim=1)

        seen = seen_in(model, loop)
        assert 4 == len(seen.record.passes)
        assert original is Counting.__call__
