"""The memory of an untimed pass: the cache and the device at its largest batch, the high-water marks of all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from kvbench.decoding.cache_bytes import logical_bytes, storage_bytes
from kvbench.decoding.protocol import Decoded, Pass, PromptBatch
from kvbench.decoding.witness import Witness
from kvbench.interruptions import Interruptions
from kvbench.measuring.arm_memory import ArmMemory, MemoryAtStep, Reconciliation
from kvbench.measuring.memory import MemoryMeter
from kvbench.model_facts import ModelFacts, kv_cache_bytes


@dataclass(frozen=True)
class Held:
    """What was in use while the cache of a batch was alive, by the names of `ArmMemory`."""

    cache_bytes: dict[str, int | None]
    in_use: dict[str, int | None]
    reconciliation: Reconciliation | None
    by_step: tuple[MemoryAtStep, ...]


class PassMemory:
    """Reads the memory of an arm's passes; `unaccountable` is why the device's memory cannot be accounted for."""

    def __init__(
        self, meter: MemoryMeter, facts: ModelFacts, interruptions: Interruptions, unaccountable: str | None
    ) -> None:
        self._meter = meter
        self._facts = facts
        self._interruptions = interruptions
        self._unaccountable = unaccountable

    def held(
        self,
        batch: PromptBatch,
        decoded: Decoded,
        witness: Witness,
        promised: Sequence[Sequence[Pass]],
        *,
        keeps_past: bool,
    ) -> Held:
        """What is in use now that a batch is decoded; `decoded` must still have its cache.

        `promised` are the passes that each new token takes.
        """
        cache_bytes = self._cache_bytes(batch, decoded, keeps_past=keeps_past)
        in_use = self._meter.in_use()
        reconciliation = self._reconciliation(cache_bytes["kv_cache_storage_bytes"])
        return Held(cache_bytes, in_use, reconciliation, self._by_step(batch, witness, promised))

    def of_pass(self, held: Held) -> ArmMemory:
        """With the high-water marks up to now."""
        return ArmMemory(
            weights_bytes=self._facts.weight_bytes,
            **held.cache_bytes,
            **held.in_use,
            **self._meter.peaks(),
            reconciliation=held.reconciliation,
            null_reasons=self._null_reasons(held.cache_bytes),
        )

    def _cache_bytes(self, batch: PromptBatch, decoded: Decoded, *, keeps_past: bool) -> dict[str, int | None]:
        cache = decoded.cache
        new_tokens = decoded.new_ids.shape[1]
        held = self._interruptions.context(batch.input_ids.shape[1], new_tokens - 1)  # the newest was never submitted
        predicted = kv_cache_bytes(self._facts, len(batch.lengths), held) if keeps_past else 0
        return {
            "kv_cache_bytes": 0 if cache is None else logical_bytes(cache),
            "kv_cache_predicted_bytes": predicted,
            "kv_cache_storage_bytes": 0 if cache is None else storage_bytes(cache),
        }

    def _reconciliation(self, storage_bytes: int | None) -> Reconciliation | None:
        if self._unaccountable is not None:
            self._meter.null_reasons["reconciliation"] = self._unaccountable
            return None
        return self._meter.reconcile(self._facts.weight_bytes, storage_bytes)

    def _null_reasons(self, cache_bytes: dict[str, int | None]) -> dict[str, str]:
        reasons = dict(self._meter.null_reasons)
        if cache_bytes["kv_cache_predicted_bytes"] is None:
            unknown = "no formula for the cache of this architecture"
            reasons["kv_cache_predicted_bytes"] = self._facts.null_reasons.get("kv_bytes_per_token", unknown)
        return reasons

    def _by_step(
        self, batch: PromptBatch, witness: Witness, promised: Sequence[Sequence[Pass]]
    ) -> tuple[MemoryAtStep, ...]:
        """After each pass that made a token: the pieces of a prompt before the last one make none."""
        prompt = batch.input_ids.shape[1]
        made_by = [count - 1 for count in accumulate(map(len, promised))]
        return tuple(
            MemoryAtStep(self._interruptions.context(prompt, index), witness.kv_bytes[place], witness.allocated[place])
            for index, place in enumerate(made_by)
            if place < len(witness.kv_bytes)
        )
