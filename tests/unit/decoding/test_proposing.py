"""Proposed tokens change how many passes there are, never what is written, and every pass submits what it promises."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from kvbench.config.compose import load_config, sources
from kvbench.decoding.forward import make_batch
from kvbench.decoding.generate import Generate
from kvbench.decoding.proposing import Drafting, Proposing
from kvbench.decoding.protocol import Decoded, PromptBatch, Unobserved
from kvbench.decoding.recorder import ProposalRecorder
from kvbench.decoding.sampling import Forced
from kvbench.decoding.settings import SessionSettings
from kvbench.errors import ModelUnavailable
from kvbench.models.draft import Draft
from kvbench.passes import CheckedProposals
from kvbench.plan import make_plan
from kvbench.running import preconditions
from kvbench.running.preconditions import drafts_beyond_windows, require_draft

pytestmark = pytest.mark.versions

NEW_TOKENS, MOST = 20, 4
DRAFTED = {
    "num_assistant_tokens": MOST,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.0,
}
LOOKED_UP = {"prompt_lookup_num_tokens": MOST, "max_matching_ngram_size": 2}
PLAN = make_plan(load_config(["mode=assisted", f"workload.new_tokens={NEW_TOKENS}"], sources()))
PENALISED = {"do_sample": False, "repetition_penalty": 1.2}


def batch() -> PromptBatch:
    return make_batch(0, [[5, 6, 7, 8, 9, 5, 6, 7]], NEW_TOKENS, torch.device("cpu"))


def setting_of(model: Any) -> SessionSettings:
    return SessionSettings("auto", model.config._attn_implementation, 0)


def drafting(model: Any, share: float) -> Drafting:
    """A draft whose weights are off by so much of their spread: it proposes some tokens that the model would not."""
    draft = copy.deepcopy(model)
    torch.manual_seed(1)
    for parameter in draft.parameters():
        if parameter.ndim > 1:
            parameter.data += torch.randn_like(parameter) * share * parameter.std()
    return Drafting(draft, setting_of(model), DRAFTED)


def decoder(
    model: Any,
    kind: str,
    arguments: dict[str, Any] | None = None,
    forced: Forced | None = None,
    cache: str = "dynamic",
) -> Proposing:
    how: dict[str, Any] = {"lookup": LOOKED_UP} if kind == "lookup" else {"drafting": drafting(model, float(kind))}
    return Proposing(model, arguments or {"do_sample": False}, setting_of(model), 0, cache=cache, forced=forced, **how)


def plain(model: Any, arguments: dict[str, Any] | None = None, forced: Forced | None = None) -> Decoded:
    made = Generate(model, arguments or {"do_sample": False}, setting_of(model), 0, use_cache=True, forced=forced)
    made.prepare(None)
    return made.run(batch(), forced.length if forced else NEW_TOKENS, Unobserved())


def watched(made: Proposing, new_tokens: int = NEW_TOKENS) -> tuple[Decoded, ProposalRecorder]:
    made.prepare(None)
    draft = None if made._drafting is None else made._drafting.model
    with ProposalRecorder(made._model, lambda: None, draft) as recorder:
        return made.run(batch(), new_tokens, Unobserved()), recorder


@pytest.fixture
def model(tiny_model: Callable[..., Any]) -> Any:
    return tiny_model("llama")


@pytest.mark.parametrize("kind", ["0", "0.1", "lookup"])
class TestADecoderThatProposes:
    def test_writes_what_generate_writes_and_submits_what_it_promises(self, model: Any, kind: str) -> None:
        decoded, recorder = watched(decoder(model, kind))
        seen = CheckedProposals(recorder.passes, decoded.made, recorder.rounds, int(decoded.cache.get_seq_length()))
        proof = seen.proof(8, MOST)
        assert plain(model).new_ids.tolist() == decoded.new_ids.tolist()
        assert (0, None, NEW_TOKENS) == (proof.violations, proof.first_violation, sum(decoded.made))

    def test_shows_the_logits_of_the_path_that_it_is_forced_to(self, model: Any, kind: str) -> None:
        path = plain(model).new_ids
        here, there = Forced(path), Forced(path)
        free, _ = watched(decoder(model, kind))
        decoded, _ = watched(decoder(model, kind, forced=here))
        plain(model, forced=there)
        assert free.made == decoded.made  # so it rejects what it rejects in a free run
        assert path.tolist() == decoded.new_ids.tolist()
        assert len(here.logits) == NEW_TOKENS
        for ours, theirs in zip(here.logits, there.logits, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "changes", "cache"),
    [
        ("mistral", {"sliding_window": 6}, "dynamic"),
        ("mistral", {"sliding_window": 6}, "full"),
        ("gemma2", {"sliding_window": 6}, "dynamic"),
        ("gpt2", {}, "dynamic"),
    ],
)
def test_windows_and_other_architectures_take_rejected_tokens_back_too(
    tiny_model: Callable[..., Any], architecture: str, changes: dict[str, Any], cache: str
) -> None:
    model = tiny_model(architecture, **changes)
    if changes and not drafts_beyond_windows():
        with pytest.raises(ModelUnavailable, match="cannot draft beyond a window of 6 tokens"):
            require_draft(PLAN, Draft(model, "itself", 0, 0, "sdpa"), [[5] * 8])
        return
    require_draft(PLAN, Draft(model, "itself", 0, 0, "sdpa"), [[5] * 8])
    decoded, recorder = watched(decoder(model, "0.1", cache=cache))
    seen = CheckedProposals(recorder.passes, decoded.made, recorder.rounds, int(decoded.cache.get_seq_length()))
    assert (0, None) == (seen.proof(8, MOST).violations, seen.proof(8, MOST).first_violation)
    assert len(decoded.made) > 4  # some were rejected
    assert plain(model).new_ids.tolist() == decoded.new_ids.tolist()


def test_a_version_that_cannot_draft_beyond_a_window_is_told_of(
    tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preconditions, "drafts_beyond_windows", lambda: False)
    require_draft(PLAN, Draft(tiny_model("mistral", sliding_window=64), "itself", 0, 0, "sdpa"), [[5] * 8])
    with pytest.raises(ModelUnavailable, match="cannot draft beyond a window of 6 tokens, and the run has 28"):
        require_draft(PLAN, Draft(tiny_model("mistral", sliding_window=6), "itself", 0, 0, "sdpa"), [[5] * 8])


def test_penalties_count_for_proposed_tokens_too(model: Any) -> None:
    decoded, _ = watched(decoder(model, "0.1", PENALISED))
    assert plain(model, PENALISED).new_ids.tolist() == decoded.new_ids.tolist()


def test_a_worse_draft_has_tokens_rejected_and_the_same_one_none(model: Any) -> None:
    (same, _), (worse, _) = watched(decoder(model, "0")), watched(decoder(model, "0.1"))
    assert same.made == (5, 5, 5, 5)
    assert len(worse.made) > 4


def test_a_key_that_is_wrong_after_a_rejection_shows_in_the_logits(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain(model).new_ids
    there, here = Forced(path), Forced(path)
    plain(model, forced=there)
    crop = DynamicCache.crop

    def crops_and_forgets(cache: Any, tokens: int) -> None:
        crop(cache, tokens)
        if tokens < 0:
            for layer in cache.layers:
                layer.keys[..., -1, :] = 0

    monkeypatch.setattr(DynamicCache, "crop", crops_and_forgets)
    watched(decoder(model, "0.1", forced=here))
    apart = [float((a - b).abs().max()) for a, b in zip(here.logits, there.logits, strict=True)]
    assert max(apart) > 0.01


def test_a_draft_begins_each_run_anew(model: Any) -> None:
    made = decoder(model, "0.1")
    made._drafting.arguments["num_assistant_tokens_schedule"] = "heuristic_transient"
    first, _ = watched(made)
    second, _ = watched(made)
    assert first.made == second.made


def test_a_stop_token_ends_the_text_within_a_pass(model: Any) -> None:
    whole = plain(model).new_ids[0].tolist()
    stop = whole[2]
    made = decoder(model, "0")
    made.prepare(None)
    decoded = made.run(batch(), NEW_TOKENS, Unobserved(), (stop,))
    assert [whole[: whole.index(stop) + 1]] == decoded.sequences((stop,))
