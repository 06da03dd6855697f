"""The memory of an untimed pass: the cache and the device at its largest batch, the high-water marks of all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from kvbench.cache_sizes import MESSAGES, predicted_bytes, unknown_reason
from kvbench.decoding.cache_bytes import host_bytes, logical_bytes, storage_bytes
from kvbench.decoding.protocol import Decoded, Pass, PromptBatch
from kvbench.decoding.witness import Witness
from kvbench.interruptions import Interruptions
from kvbench.measuring.arm_memory import ArmMemory, MemoryAtStep, Reconciliation
from kvbench.measuring.memory import MemoryMeter
from kvbench.model_facts import ModelFacts
from kvbench.plan import Arm


@dataclass(frozen=True)
class Held:
    """What was in use while the cache of a batch was alive, by the names of `ArmMemory`."""

    cache_bytes: dict[str, int | None]
    host_bytes: int  # of the cache
    unknown: str | None  # why the cache's bytes are not predicted
    in_use: dict[str, int | None]
    reconciliation: Reconciliation | None
    by_step: tuple[MemoryAtStep, ...]


class PassMemory:
    """Reads the memory of an arm's passes; `unaccountable` is why the device's memory cannot be accounted for."""

    def __init__(
        self,
        meter: MemoryMeter,
        facts: ModelFacts,
        interruptions: Interruptions,
        unaccountable: str | None,
        device: torch.device,
    ) -> None:
        self._device = device
        self._meter = meter
        self._facts = facts
        self._interruptions = interruptions
        self._unaccountable = unaccountable

    def held(
        self, batch: PromptBatch, decoded: Decoded, witness: Witness, promised: Sequence[Sequence[Pass]], arm: Arm
    ) -> Held:
        """What is in use now that a batch is decoded; `decoded` must still have its cache.

        `promised` are the passes that each new token takes.
        """
        cache = decoded.cache
        cache_bytes = self._cache_bytes(batch, decoded, arm)
        in_use = self._meter.in_use()
        on_device = 0 if cache is None else storage_bytes(cache, self._device)
        waiting = 0 if cache is None else host_bytes(cache, self._device)
        reconciliation = self._reconciliation(on_device)
        by_step = self._by_step(batch, witness, promised)
        return Held(cache_bytes, waiting, self._unknown(arm), in_use, reconciliation, by_step)

    def of_pass(self, held: Held) -> ArmMemory:
        """With the high-water marks up to now."""
        return ArmMemory(
            weights_bytes=self._facts.weight_bytes,
            **held.cache_bytes,
            kv_cache_host_bytes=held.host_bytes,
            **held.in_use,
            **self._meter.peaks(),
            reconciliation=held.reconciliation,
            null_reasons=self._null_reasons(held),
        )

    def _cache_bytes(self, batch: PromptBatch, decoded: Decoded, arm: Arm) -> dict[str, int | None]:
        cache: Any = decoded.cache
        new_tokens = decoded.new_ids.shape[1]
        prompt = batch.input_ids.shape[1]
        length = None
        if cache is not None and arm.is_static:
            length = max(getattr(layer, "max_cache_len", 0) for layer in cache.layers)
        return {
            "kv_cache_bytes": 0 if cache is None else logical_bytes(cache),
            "kv_cache_predicted_bytes": predicted_bytes(
                self._facts, arm, len(batch.lengths), prompt, new_tokens, self._interruptions, length
            ),
            "kv_cache_storage_bytes": 0 if cache is None else storage_bytes(cache),
        }

    def _unknown(self, arm: Arm) -> str | None:
        if not arm.keeps_past:
            return None
        messages = MESSAGES if arm.is_lossy and self._interruptions.message_ids else None
        return unknown_reason(self._facts, arm.cache) or messages

    def _reconciliation(self, storage_bytes: int | None) -> Reconciliation | None:
        if self._unaccountable is not None:
            self._meter.null_reasons["reconciliation"] = self._unaccountable
            return None
        return self._meter.reconcile(self._facts.weight_bytes, storage_bytes)

    def _null_reasons(self, held: Held) -> dict[str, str]:
        reasons = dict(self._meter.null_reasons)
        if held.cache_bytes["kv_cache_predicted_bytes"] is None:
            reasons["kv_cache_predicted_bytes"] = held.unknown or "no formula for the cache of this architecture"
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
