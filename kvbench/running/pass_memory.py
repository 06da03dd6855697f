"""Passes that are watched instead of timed: what an arm holds over all batches, and what one size of a search takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, takewhile
from typing import Any

import psutil
import torch

from kvbench.arm import Arm
from kvbench.decoding.caches import host_bytes, logical_bytes, storage_bytes
from kvbench.decoding.protocol import Decoded, Pass, PromptBatch, Unobserved
from kvbench.decoding.recorder import PassRecorder, ProposalRecorder, recorder_of
from kvbench.errors import DeviceUnavailable
from kvbench.measuring import memory
from kvbench.measuring.environment import device_uuid
from kvbench.model_costs import MESSAGES, predicted_bytes, unknown_reason
from kvbench.models.devices import GIB, free_bytes
from kvbench.models.tensor_parallel import predicted_rank_bytes
from kvbench.models.tokenizers import NoTokenizer
from kvbench.passes import CheckedProposals, Interruptions, passes_by_token, together
from kvbench.plan import Attempt
from kvbench.records.evidence import Reconciliation
from kvbench.records.part import shared
from kvbench.records.proposals import ProposalCounts, Proposals, proposals_of
from kvbench.records.scaling import Capacity
from kvbench.records.timings import tokens_sha256
from kvbench.records.untimed import Memory, MemoryPoint, Proof, RankFigures, UntimedPass
from kvbench.running.preconditions import end_ids
from kvbench.running.shared_prefix import shared_prefix
from kvbench.running.torch_session import TorchSession
from kvbench.running.visits import promise_of, proof_of_passes, proof_of_proposals

HOST_SHARE = 0.9  # of what is free: beyond it the system ends processes, and not only the one that took it
WARMING_TOKENS = 256


def pass_of(session: TorchSession, arm: int) -> UntimedPass:
    """Run an arm over every batch with its memory and its proof observed instead of its time."""
    loaded, stop_ids = session.model.loaded, session.stop_ids
    new_tokens = session.plan.config.workload.new_tokens
    _begin(session, arm)
    tokens: list[list[int]] = []
    digests: list[str] = []
    proofs: list[Proof] = []
    proposals: list[ProposalCounts] = []
    largest = session.batches.largest
    for batch in session.batches:
        decoder = session.decoders.plain(arm)
        decoder.prepare(None)
        with _recorder(session, arm) as recorder:
            decoded = decoder.run(batch, new_tokens, Unobserved(), stop_ids)
        if recorder.state is not None:  # `generate` does not return every state
            decoded = replace(decoded, cache=recorder.state)
        ids = decoded.sequences(stop_ids)
        tokens += ids
        digests.append(tokens_sha256(ids))
        proof = _proof(session, arm, batch, decoded, recorder)
        proofs.append(replace(proof, unseen=recorder.unseen))
        if isinstance(recorder, ProposalRecorder):
            proposals.append(_checked(batch, decoded, recorder))
        if batch is largest:
            held = _held(session, arm, batch, decoded, recorder)
        del decoded, recorder  # their cache must not be counted for the next batch
    own, proof = _memory(session, held), together(proofs)
    ranks = _ranks(session, own, proof, digests)
    return UntimedPass(
        arm=arm,
        tokens=tuple(map(tuple, tokens)),
        texts=() if isinstance(loaded.tokenizer, NoTokenizer) else tuple(map(session.model.text, tokens)),
        finish_reasons=tuple("stop" if ids[-1] in stop_ids else "length" for ids in tokens),
        tokens_sha256=tuple(digests),
        memory=own if ranks is None else _summed(session, own, ranks[0]),
        memory_by_step=held.by_step if ranks is None else _times(held.by_step, session.team.size),
        proof=proof if ranks is None else ranks[1],
        ranks=() if ranks is None else ranks[0],
        text_ends=_text_ends(session, tokens),
        proposals=_proposals(session, arm, proposals),
        prefix=shared_prefix(session, arm),
    )


def _recorder(session: TorchSession, arm: int) -> PassRecorder:
    spec, model, allocated = session.plan.arms[arm], session.model.loaded.model, session.meter.allocated_bytes
    if spec.proposes:
        draft = session.draft.model if session.draft is not None and spec.mode == "assisted" else None
        return ProposalRecorder(model, allocated, draft)
    return recorder_of(model, allocated, keeps_past=spec.keeps_past)


def _proof(session: TorchSession, arm: int, batch: PromptBatch, decoded: Decoded, recorder: PassRecorder) -> Proof:
    """What the recorder saw of a batch, held against the promise of the arm's mode."""
    if isinstance(recorder, ProposalRecorder):
        held = None if decoded.cache is None else int(decoded.cache.get_seq_length())
        return proof_of_proposals(
            session, arm, batch, CheckedProposals(recorder.passes, decoded.made, recorder.rounds, held)
        )
    proof = proof_of_passes(session, arm, batch, recorder.passes)
    if session.plan.arms[arm].mode == "prefix" and batch.shared and recorder.rows[0] != 1:
        first = f"pass 0: submitted the shared tokens for {recorder.rows[0]} sequences, where one does"
        return replace(proof, violations=proof.violations + 1, first_violation=proof.first_violation or first)
    return proof


def _checked(batch: PromptBatch, decoded: Decoded, recorder: ProposalRecorder) -> ProposalCounts:
    seen = CheckedProposals(recorder.passes, decoded.made, recorder.rounds)
    return seen.counts(batch.longest, recorder.draft_kv_bytes)


def _proposals(session: TorchSession, arm: int, counts: Sequence[ProposalCounts]) -> Proposals | None:
    if not counts:
        return None
    draft = session.draft if session.plan.arms[arm].mode == "assisted" else None
    if draft is None:
        return proposals_of(counts)
    return proposals_of(counts, draft.name, draft.parameters, draft.weight_bytes)


def _text_ends(session: TorchSession, tokens: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Characters of each text before its first end token, of the whole text where it has none."""
    loaded = session.model.loaded
    if isinstance(loaded.tokenizer, NoTokenizer):
        return ()
    ends = set(end_ids(loaded))
    return tuple(len(session.model.text(list(takewhile(lambda each: each not in ends, ids)))) for ids in tokens)


def _begin(session: TorchSession, arm: int) -> None:
    """Leave nothing on the device but the model and what the arm itself keeps there."""
    session.decoders.release_others(arm)
    if session.plan.arms[arm].repeats:  # a compiler's memory is not that of a pass
        for batch in session.batches:
            decoder = session.decoders.plain(arm)
            decoder.prepare(None)
            new_tokens = session.plan.config.workload.new_tokens
            session.decoders.rehearse(arm, partial(decoder.run, batch, new_tokens, Unobserved(), session.stop_ids))
    session.meter.reset(session.decoders.replayed_bytes(arm))


@dataclass(frozen=True)
class _Held:
    """What was in use while the cache of a batch was alive, by the names of `Memory`."""

    cache_bytes: dict[str, int | None]
    host_bytes: int  # of the cache
    unknown: str | None  # why the cache's bytes are not predicted
    in_use: dict[str, int | None]
    reconciliation: Reconciliation | None
    by_step: tuple[MemoryPoint, ...]


def _held(session: TorchSession, arm: int, batch: PromptBatch, decoded: Decoded, recorder: PassRecorder) -> _Held:
    """What is in use now that a batch is decoded; `decoded` must still have its cache."""
    device, spec, cache = session.model.device, session.plan.arms[arm], decoded.cache
    cache_bytes = _cache_bytes(session, batch, decoded, spec)
    in_use = session.meter.in_use()
    on_device = 0 if cache is None else storage_bytes(cache, device)
    waiting = 0 if cache is None else host_bytes(cache, device)
    reconciliation = _reconciliation(session, spec, on_device)
    interruptions = session.prepared.interruptions
    if isinstance(recorder, ProposalRecorder):
        by_step = _by_pass(recorder)
    else:
        promised = passes_by_token(
            decoded.new_ids.shape[1], batch.longest, spec.keeps_past, interruptions, **promise_of(session, arm, batch)
        )
        by_step = _by_step(batch, recorder, promised, interruptions)
    return _Held(cache_bytes, waiting, _unknown(session, spec), in_use, reconciliation, by_step)


def _cache_bytes(session: TorchSession, batch: PromptBatch, decoded: Decoded, arm: Arm) -> dict[str, int | None]:
    cache: Any = decoded.cache
    length = None
    if cache is not None and arm.is_static:
        length = max(getattr(layer, "max_cache_len", 0) for layer in cache.layers)
    predicted = predicted_bytes(
        session.model.rank_facts,
        arm,
        len(batch.lengths),
        batch.longest,
        decoded.new_ids.shape[1],
        session.prepared.interruptions,
        length,
    )
    return {
        "kv_cache_bytes": 0 if cache is None else logical_bytes(cache),
        "kv_cache_predicted_bytes": predicted,
        "kv_cache_storage_bytes": 0 if cache is None else storage_bytes(cache),
    }


def _unknown(session: TorchSession, arm: Arm) -> str | None:
    if not arm.keeps_past:
        return None
    messages = MESSAGES if arm.is_lossy and session.prepared.interruptions.message_ids else None
    return unknown_reason(session.model.rank_facts, arm.cache) or messages


def _reconciliation(session: TorchSession, arm: Arm, storage_bytes: int | None) -> Reconciliation | None:
    if session.model.unaccountable is not None:
        session.meter.null_reasons["reconciliation"] = session.model.unaccountable
        return None
    weights = session.model.loaded.facts.weight_bytes
    if weights is not None and session.draft is not None and arm.mode == "assisted":
        weights += session.draft.weight_bytes
    return session.meter.reconcile(weights, storage_bytes)


def _by_step(
    batch: PromptBatch, recorder: PassRecorder, promised: Sequence[Sequence[Pass]], interruptions: Interruptions
) -> tuple[MemoryPoint, ...]:
    """After each pass that made a token: the pieces of a prompt before the last one make none.

    `promised` are the passes that each new token takes.
    """
    made_by = [count - 1 for count in accumulate(map(len, promised))]
    return tuple(
        MemoryPoint(
            context_length=interruptions.context(batch.longest, index),
            kv_cache_bytes=recorder.kv_bytes[place],
            allocated_bytes=recorder.allocated[place],
        )
        for index, place in enumerate(made_by)
        if place < len(recorder.kv_bytes)
    )


def _by_pass(recorder: PassRecorder) -> tuple[MemoryPoint, ...]:
    """After each pass, with the proposed tokens still in the cache."""
    return tuple(
        MemoryPoint(context_length=made.past_after or 0, kv_cache_bytes=kv_bytes, allocated_bytes=allocated)
        for made, kv_bytes, allocated in zip(recorder.passes, recorder.kv_bytes, recorder.allocated, strict=True)
    )


def _memory(session: TorchSession, held: _Held) -> Memory:
    """What was held, with the high-water marks up to now."""
    reasons = dict(session.meter.null_reasons)
    if held.cache_bytes["kv_cache_predicted_bytes"] is None:
        reasons["kv_cache_predicted_bytes"] = held.unknown or "no formula for the cache of this architecture"
    return Memory(
        weights_bytes=session.model.loaded.facts.weight_bytes,
        **held.cache_bytes,
        kv_cache_host_bytes=held.host_bytes,
        **held.in_use,
        **session.meter.peaks(),
        reconciliation=held.reconciliation,
    ).because(reasons)


def _ranks(
    session: TorchSession, own: Memory, proof: Proof, digests: Sequence[str]
) -> tuple[tuple[RankFigures, ...], Proof] | None:
    """What each rank held and submitted, and the proof of all of them; None for a model in one process."""
    team, model = session.team, session.model
    if team.size == 1:
        return None
    mine = (
        {
            **shared(RankFigures, own),
            "rank": team.rank,
            "device": str(model.device),
            "device_uuid": device_uuid(model.device),
            "weights_predicted_bytes": predicted_rank_bytes(
                model.loaded.model, model.loaded.plan, team.rank, team.size
            ),
            "steps_checked": proof.steps_checked,
            "violations": proof.violations,
        },
        tuple(digests),
        proof,
    )
    told = team.gathered(mine)
    figures = tuple(RankFigures(**values, same_tokens=theirs == told[0][1]) for values, theirs, _ in told)
    return figures, together([each for _, _, each in told])


def _summed(session: TorchSession, own: Memory, ranks: Sequence[RankFigures]) -> Memory:
    """The memory of all ranks together; what one of them does not tell is not told of all."""
    names = [name for name in RankFigures.model_fields if name in Memory.model_fields]
    values = {name: [getattr(each, name) for each in ranks] for name in names}
    sums = {name: None if None in each else sum(each) for name, each in values.items()}
    storage = session.team.gathered((own.kv_cache_storage_bytes, own.kv_cache_host_bytes, own.reconciliation))
    accounts = [each for _, _, each in storage if each is not None]
    whole = None
    if len(accounts) == len(storage):
        whole = Reconciliation(
            **{name: sum(getattr(each, name) for each in accounts) for name in Reconciliation.model_fields}
        )
    reasons = {name: own.why_null(name) for name in Memory.model_fields if getattr(own, name) is None}
    return Memory(
        **sums,
        kv_cache_storage_bytes=None
        if None in [each for each, _, _ in storage]
        else sum(each or 0 for each, _, _ in storage),
        kv_cache_host_bytes=sum(each for _, each, _ in storage),
        reconciliation=whole,
    ).because(reasons)


def _times(points: Sequence[MemoryPoint], ranks: int) -> tuple[MemoryPoint, ...]:
    """What one rank held, as often as there are ranks: they share heads evenly."""
    return tuple(
        MemoryPoint(
            context_length=each.context_length,
            kv_cache_bytes=None if each.kv_cache_bytes is None else ranks * each.kv_cache_bytes,
            allocated_bytes=None if each.allocated_bytes is None else ranks * each.allocated_bytes,
        )
        for each in points
    )


def capacity(session: TorchSession) -> Capacity:
    """A GPU's memory, or what this process may hold of the host's. Raises `DeviceUnavailable`.

    Read after a short pass, so that what libraries take at their first use counts as in use.
    """
    workload, memory_gib = session.plan.config.workload, session.plan.config.frontier.memory_gib
    context = min(WARMING_TOKENS, workload.prompt_tokens or WARMING_TOKENS)
    peak_of(session, Attempt(0, 1, max(context, workload.new_tokens), None, 0.0))
    session.meter.reset()
    memory.reset_peak()
    wanted = None if memory_gib is None else int(memory_gib * GIB)
    device = session.model.device
    if device.type == "cpu":
        rss_bytes = psutil.Process().memory_info().rss
        # Weights that are mapped from a file may not be resident yet.
        overhead = max(rss_bytes - (session.model.loaded.facts.weight_bytes or 0), session.model.empty_rss_bytes)
        return Capacity(wanted or rss_bytes + int(HOST_SHARE * free_bytes(device)), overhead, of_process=True)
    if device.type != "cuda":
        raise DeviceUnavailable(f"frontier.axes: no limit of memory can be kept on {device.type}; use cpu or cuda")
    free, total = torch.cuda.mem_get_info(device)
    return Capacity(wanted or total, total - free - torch.cuda.memory_reserved(device), of_process=False)


def peak_of(session: TorchSession, attempt: Attempt) -> int | None:
    """The most bytes in use while one size is decoded, None where they cannot be told.

    Ids are counted up, never the same in two rows: what they say does not matter.
    """
    device, new_tokens = session.model.device, session.plan.config.workload.new_tokens
    session.meter.reset()
    outside = _limited(device, attempt.limit_bytes)
    memory.reset_peak()
    prompt = attempt.context - new_tokens + 1
    vocabulary = session.model.loaded.facts.vocab_size or 1
    ids = torch.arange(attempt.rows * prompt).view(attempt.rows, prompt).remainder_(vocabulary)
    positions = torch.arange(prompt + new_tokens).unsqueeze(0)
    batch = PromptBatch(0, ids.to(device), positions.to(device), None, (prompt,) * attempt.rows)
    decoder = session.decoders.plain(attempt.arm)
    decoder.prepare(None)
    decoded = decoder.run(batch, new_tokens, Unobserved())
    decoded.new_ids.tolist()  # until here the device may still be at it
    if outside is None:
        return memory.peak_bytes()
    return outside + torch.cuda.max_memory_allocated(device)


def _limited(device: torch.device, limit_bytes: int | None) -> int | None:
    """Hold torch's allocator to a limit; the device's bytes in use outside of it, None without such a device."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    outside = total - free - torch.cuda.memory_reserved(device)
    share = 1.0 if limit_bytes is None else max(0.0, min(1.0, (limit_bytes - outside) / total))
    torch.cuda.set_per_process_memory_fraction(share, device)
    return int(outside)
