"""Single sizes decoded under a limit of memory, for the search for the largest that fits."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch

from kvbench.decoding.protocol import Decoder, PromptBatch, Unobserved
from kvbench.errors import DeviceUnavailable
from kvbench.measuring import memory
from kvbench.measuring.memory import MemoryMeter
from kvbench.models.fitting import GIB, free_bytes
from kvbench.plan import Attempt, Plan
from kvbench.records.scaling import Capacity
from kvbench.running.model_on_device import ModelOnDevice

HOST_SHARE = 0.9  # of what is free: beyond it the system ends processes, and not only the one that took it
WARMING_TOKENS = 256


class SizeAttempts:
    """The memory of a model's device and of this process, and whether a size fits into it."""

    def __init__(self, model: ModelOnDevice, plan: Plan, meter: MemoryMeter, decoder: Callable[[int], Decoder]) -> None:
        self._model = model
        self._device = model.device
        self._facts = model.loaded.facts
        self._workload = plan.config.workload
        self._memory_gib = plan.config.frontier.memory_gib
        self._meter = meter
        self._decoder = decoder

    def capacity(self) -> Capacity:
        """A GPU's memory, or what this process may hold of the host's. Raises `DeviceUnavailable`.

        Read after a short pass, so that what libraries take at their first use counts as in use.
        """
        context = min(WARMING_TOKENS, self._workload.prompt_tokens or WARMING_TOKENS)
        self.attempt(Attempt(0, 1, max(context, self._workload.new_tokens), None, 0.0))
        self._meter.reset()
        memory.reset_peak()
        wanted = None if self._memory_gib is None else int(self._memory_gib * GIB)
        device = self._device
        if device.type == "cpu":
            rss_bytes = psutil.Process().memory_info().rss
            # Weights that are mapped from a file may not be resident yet.
            overhead = max(rss_bytes - (self._facts.weight_bytes or 0), self._model.empty_rss_bytes)
            return Capacity(wanted or rss_bytes + int(HOST_SHARE * free_bytes(device)), overhead, of_process=True)
        if device.type != "cuda":
            raise DeviceUnavailable(f"frontier.axes: no limit of memory can be kept on {device.type}; use cpu or cuda")
        free, total = torch.cuda.mem_get_info(device)
        return Capacity(wanted or total, total - free - torch.cuda.memory_reserved(device), of_process=False)

    def attempt(self, attempt: Attempt) -> int | None:
        """The most bytes in use while one size is decoded, None where they cannot be told.

        Ids are counted up, never the same in two rows: what they say does not matter.
        """
        new_tokens = self._workload.new_tokens
        self._meter.reset()
        outside = self._limited(attempt.limit_bytes)
        memory.reset_peak()
        prompt = attempt.context - new_tokens + 1
        vocabulary = self._facts.vocab_size or 1
        ids = torch.arange(attempt.rows * prompt).view(attempt.rows, prompt).remainder_(vocabulary)
        positions = torch.arange(prompt + new_tokens).unsqueeze(0)
        batch = PromptBatch(0, ids.to(self._device), positions.to(self._device), None, (prompt,) * attempt.rows)
        decoder = self._decoder(attempt.arm)
        decoder.prepare(None)
        decoded = decoder.run(batch, new_tokens, Unobserved())
        decoded.new_ids.tolist()  # until here the device may still be at it
        if outside is None:
            return memory.peak_bytes()
        return outside + torch.cuda.max_memory_allocated(self._device)

    def _limited(self, limit_bytes: int | None) -> int | None:
        """Hold torch's allocator to a limit; the device's bytes in use outside of it, None without such a device."""
        device = self._device
        if device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(device)
        outside = total - free - torch.cuda.memory_reserved(device)
        share = 1.0 if limit_bytes is None else max(0.0, min(1.0, (limit_bytes - outside) / total))
        torch.cuda.set_per_process_memory_fraction(share, device)
        return int(outside)
