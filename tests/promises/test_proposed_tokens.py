"""Proposed tokens and shared beginnings: exact figures of a script, sentences, refusals, and real runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import the_record
from translations import left_in_english

Run = Callable[..., tuple[int, str, str]]
Scripted = Callable[..., dict[str, Any]]

# Of 4 proposed tokens a pass accepts 3, the next one 1: 13 tokens in passes of 4, 2, 4, 2 and 1.
SCRIPT = (
    "workload.prompt_tokens=20",
    "workload.new_tokens=13",
    "model.accepted=[3,1]",
    "assisted.num_assistant_tokens=4",
    "model.draft_step_s=0.0001",
    "model.checked_token_s=0.00005",
)


def sentences(record: dict[str, Any]) -> dict[str, str]:
    told = {each["code"]: each["text"] for each in record["comparison"]["diagnosis"]}
    assert [] == left_in_english((f"diagnosis.{code}", text) for code, text in told.items())
    return told


class TestAScriptWithADraft:
    def test_gives_back_exactly_what_it_says(self, scripted: Scripted) -> None:
        run = scripted("mode=assisted", *SCRIPT)
        generate, assisted = run["arms"]
        found = assisted["proposals"]
        assert (None, "generate") == (generate["proposals"], generate["mode"])
        # Proposed are 4, 4, 4, then the 2 and the 0 that leave room for a token of the model's own.
        assert (5, 13, 14, 8) == tuple(
            found[name] for name in ("passes", "new_tokens", "proposed_tokens", "accepted_tokens")
        )
        assert (8 / 14, 13 / 5) == pytest.approx((found["acceptance"], found["tokens_per_pass"]))
        assert [1, 2, 0, 2] == found["accepted_histogram"]
        # The prompt, the newest token of 4 later passes, and what is proposed; the draft reads 2 tokens a round.
        assert (20 + 4 + 14, 14, 20 + 3 * 2 + 14 - 4) == (
            found["submitted_tokens"],
            found["draft_passes"],
            found["draft_submitted_tokens"],
        )
        # 10 ms of prefill and 4 tokens proposed and checked; then 4 passes of 1 ms for 9 tokens, 10 proposed.
        decode_s = 4 * 0.001 + 10 * 0.00015
        assert (0.01 + 4 * 0.00015, decode_s / 9, 9 / decode_s, decode_s / 4) == pytest.approx(
            (
                assisted["ttft_s"]["value"],
                assisted["itl_s"]["value"],
                assisted["decode_tokens_per_s"]["value"],
                found["pass_s"]["value"],
            )
        )
        assert 13 / (0.01 + 4 * 0.00015 + decode_s) == pytest.approx(assisted["end_to_end_tokens_per_s"]["value"])
        assert run["comparison"]["speedup"]["value"] == pytest.approx(9 / decode_s / 1000)
        # 5 passes in the untimed pass and in two lanes of eight blocks
        assert (0, 5 * 17) == (assisted["proof"]["violations"], assisted["proof"]["steps_checked"])
        assert generate["tokens"] == assisted["tokens"]
        assert run["null_reasons"]["/arms/1/limit/floor_s"].startswith("not computed for a mode whose passes check")

    def test_says_that_it_paid(self, scripted: Scripted) -> None:
        assert (
            "57 % of the proposed tokens are accepted, so that a pass of assisted makes 2.6 tokens on average; a pass"
            " takes 1.38 ms instead of 1.00 ms for a step of generate, which pays: 1.64× as fast."
        ) == sentences(scripted("mode=assisted", *SCRIPT))["proposals"]

    def test_says_that_it_cost_more_than_it_saved(self, scripted: Scripted) -> None:
        run = scripted("mode=assisted", *SCRIPT, "model.accepted=[0]", "model.draft_step_s=0.001")
        assert "SLOWER" == run["comparison"]["verdict"]
        assert (
            "0.0 % of the proposed tokens are accepted, so that a pass of assisted makes 1.0 tokens on average"
        ) in sentences(run)["proposals"]
        assert "which costs more than it saves" in sentences(run)["proposals"]

    def test_proposes_as_many_for_every_pass_as_it_is_told_to(self, scripted: Scripted) -> None:
        run = scripted("mode=assisted", *SCRIPT, "model.accepted=null", "measure.step_lane=false")
        assert [0, 0, 1, 0, 2] == run["arms"][1]["proposals"]["accepted_histogram"]

    def test_proposes_two_more_after_a_pass_that_accepted_all_where_it_is_told_to(self, scripted: Scripted) -> None:
        adapting = "assisted.num_assistant_tokens_schedule=heuristic_transient"
        run = scripted("mode=assisted", *SCRIPT, "model.accepted=null", adapting)
        # 4 of 4 accepted, then 6 of 6, then a single token is left.
        assert [1, 0, 0, 0, 1, 0, 1] == run["arms"][1]["proposals"]["accepted_histogram"]
        assert 0 == run["arms"][1]["proof"]["violations"]


def test_a_scripted_look_up_has_no_draft(scripted: Scripted) -> None:
    run = scripted(
        "mode=prompt_lookup",
        "workload.prompt_tokens=20",
        "workload.new_tokens=13",
        "model.accepted=[2]",
        "prompt_lookup.prompt_lookup_num_tokens=2",
        "model.draft_step_s=0.5",
    )
    found = run["arms"][1]["proposals"]
    assert (5, 8, 8, None) == (
        found["passes"],
        found["proposed_tokens"],
        found["accepted_tokens"],
        found["draft_passes"],
    )
    assert run["arms"][1]["itl_s"]["value"] == pytest.approx(0.004 / 10)  # a look-up takes no time here
    assert "were looked up in the text" in run["null_reasons"]["/arms/1/proposals/draft_model"]


def test_a_script_that_shares_a_beginning_computes_it_once(scripted: Scripted) -> None:
    run = scripted(
        "mode=prefix",
        "workload.prompt_tokens=100",
        "workload.shared_tokens=80",
        "workload.batch_size=4",
        "workload.new_tokens=5",
    )
    cached, prefix = run["arms"]
    assert {"shared_tokens": 80, "prefill_tokens": 160, "unshared_prefill_tokens": 400} == prefix["prefix"]
    assert (0.01, 0.004) == pytest.approx((cached["ttft_s"]["value"], prefix["ttft_s"]["value"]))
    # a pass for the beginning, one for the rest, and four steps
    assert (5 * 17, 6 * 17, 0) == (
        cached["proof"]["steps_checked"],
        prefix["proof"]["steps_checked"],
        prefix["proof"]["violations"],
    )
    assert (
        "The 80 tokens that all prompts begin with are computed once: prefills submit 160 tokens instead of 400, and"
        " the time to the first token is 4.00 ms instead of 10.0 ms."
    ) == sentences(run)["shared_prefix"]


REFUSED = [
    (["mode=assisted", "workload.batch_size=2"], "generate checks proposals for one sequence at a time"),
    (["mode=assisted", "sampling.temperature=0.7"], "draws other tokens than generate does"),
    (["mode=assisted", "workload.prefill_chunk=8"], "submits the prompt whole"),
    (["mode=assisted", "trace.probabilities=true"], "whose passes make several tokens"),
    (["mode=assisted", "audit=true"], "whose time depends on what the prompts say"),
    (["mode=assisted", "model.device_map=auto"], "whose draft is on one device"),
    (["mode=assisted", "assisted.model=''"], "assisted.model is empty"),
    (["mode=assisted", "cache=static"], "takes rejected tokens out of its cache: use cache=dynamic or full"),
    (["mode=assisted", "cache=quanto_int4"], "takes rejected tokens out of its cache: use cache=dynamic or full"),
    (["mode=assisted", "engine=compiled"], "has passes of many shapes, which no engine but eager runs"),
    (["mode=prompt_lookup", "scaling.lengths=[8,16,24,32]"], "scaling.lengths: not with mode prompt_lookup"),
    (["mode=prompt_lookup", "frontier.axes=[context]", "workload.prompt_tokens=64"], "frontier.axes: not with mode"),
    (
        ["arms=[{mode: assisted},{mode: generate}]"],
        "cannot be the first arm: it is compared with one without",
    ),
    (["mode=assisted", "model=python", "model.target=mine:build"], "transformers' own generate(), which model=python"),
    (["model=scripted", "mode=assisted", "model.accepted=[-1]"], "must be a list of numbers of 0 or more"),
    (["mode=prefix"], "workload.batch_size=1: mode prefix shares"),
    (
        ["mode=prefix", "workload.batch_size=2", "cache=static"],
        "copies its cache to other sequences: use cache=dynamic",
    ),
    (["mode=prefix", "workload.batch_size=2", "audit=true"], "audit=true: not with mode prefix"),
    (["mode=prefix", "workload.batch_size=2", "workload.prefill_chunk=8"], "mode prefix has pieces of its own"),
    (
        ["workload.batch_size=2", "workload.prompt_tokens=8", "workload.shared_tokens=8"],
        "must be fewer than workload.prompt_tokens=8",
    ),
]


@pytest.mark.parametrize(("overrides", "sentence"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_cannot_be_had_is_refused_in_one_sentence(run_kvbench: Run, overrides: list[str], sentence: str) -> None:
    code, _, err = run_kvbench(*overrides, "report=false")
    assert (2, 1) == (code, err.count("\n")), err
    assert sentence in err


# Real runs.

REAL = (
    "launch=inline",
    "threads=1",
    "report=false",
    "stream.interval=0",
    "workload.prompt='The cache keeps the keys and values of the cache keeps the keys'",
    "workload.new_tokens=8",
    "measure.blocks=5",
    "measure.warmup=0",
    "measure.step_lane=false",
    "measure.energy_s=0",
)


def draft_of(tmp_path: Path, share: float) -> Path:
    """The embedded model with weights that are off by so much of their spread."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kvbench.model_folder import EMBEDDED

    model = AutoModelForCausalLM.from_pretrained(EMBEDDED)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data += torch.randn_like(parameter) * share * parameter.std()
    folder = tmp_path / "draft"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED).save_pretrained(folder)
    return folder


@pytest.mark.versions
def test_a_real_run_counts_proves_and_compares_what_is_proposed(run_kvbench: Run, tmp_path: Path) -> None:
    folder = draft_of(tmp_path, 0.8)
    code, out, err = run_kvbench(
        *REAL,
        "arms=[{mode: generate},{mode: assisted},{mode: prompt_lookup}]",
        f"assisted.model={folder}",
        "assisted.num_assistant_tokens=4",
        "assisted.assistant_confidence_threshold=0",
    )
    assert 0 == code, out + err
    run = the_record(tmp_path / "results")
    generate, assisted, lookup = run["arms"]
    drafted, looked_up = assisted["proposals"], lookup["proposals"]
    assert generate["tokens"] == assisted["tokens"] == lookup["tokens"]
    assert [0, 0] == [arm["proof"]["violations"] for arm in (assisted, lookup)]
    assert all(each["agreement"]["verdict"] != "MISMATCH" for each in run["comparisons"])
    assert all(each["agreement"]["steps"] for each in run["comparisons"])
    assert 0 < drafted["accepted_tokens"] < drafted["proposed_tokens"]
    for found in (drafted, looked_up):
        assert 8 == found["new_tokens"] == found["passes"] + found["accepted_tokens"]
        assert sum(found["accepted_histogram"]) == found["passes"]
    assert drafted["draft_passes"] == drafted["proposed_tokens"]
    # Of the target's bytes a token, for as many as the draft has read.
    per_token = generate["memory"]["kv_cache_bytes"] / (run["workload"]["prompt_tokens"][0] + 7)
    assert 0 == drafted["draft_kv_cache_bytes"] % per_token
    assert run["model"]["weight_bytes"] == drafted["draft_weights_bytes"]
    assert generate["memory"]["kv_cache_bytes"] == assisted["memory"]["kv_cache_bytes"]


@pytest.mark.versions
def test_a_real_batch_that_shares_a_beginning_is_the_same_batch(run_kvbench: Run, tmp_path: Path) -> None:
    shared = ("workload.prompt=null", "workload.prompt_tokens=40", "workload.shared_tokens=30", "workload.batch_size=3")
    code, out, err = run_kvbench(*REAL, "mode=prefix", *shared)
    assert 0 == code, out + err
    run = the_record(tmp_path / "results")
    cached, prefix = run["arms"]
    assert {"shared_tokens": 30, "prefill_tokens": 60, "unshared_prefill_tokens": 120} == prefix["prefix"]
    assert 0 == prefix["proof"]["violations"]
    assert run["comparison"]["agreement"]["verdict"] in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
    assert cached["memory"]["kv_cache_bytes"] == prefix["memory"]["kv_cache_bytes"]


def test_a_draft_of_another_vocabulary_is_refused(run_kvbench: Run, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(tmp_path / "other")
    from kvbench.model_folder import EMBEDDED

    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "other" / file).write_bytes((EMBEDDED / file).read_bytes())
    code, _, err = run_kvbench(*REAL, "mode=assisted", f"assisted.model={tmp_path / 'other'}")
    assert 2 == code
    assert "its vocabulary has 64 tokens and the model's" in err
    assert "choose a smaller model of the same family" in err


def test_prompts_that_share_nothing_are_refused(run_kvbench: Run) -> None:
    code, _, err = run_kvbench(*REAL, "mode=prefix", "workload.prompt=null", "workload.batch_size=2")
    assert 2 == code
    assert "prompts of a batch differ in length" in err
