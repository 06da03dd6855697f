"""What a decode step is made of, by torch's own profiler and counters. Never run before or beside a timing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from kvbench.decoding.forward import Forward
from kvbench.decoding.protocol import PromptBatch, Unobserved
from kvbench.measuring.clocks import Clock
from kvbench.models.signature import attention_of
from kvbench.models.weights_read import UNSEEN, PassWatch
from kvbench.records.untimed import CountedFlops, KernelShare, StepWork, is_attention, is_exchange
from kvbench.running.torch_session import TorchSession
from kvbench.running.worker_state import device_profile

COUNTED_TOKENS = 128  # of a prompt; eager attention holds every score
LARGEST_KERNELS = 3
LONGEST_NAME = 160  # of a kernel: templates run to thousands of characters
COMPILED_AWAY = "a compiler has put its operations together, and nothing counts them on a CPU"
SEVERAL_TOKENS = "its passes check proposed tokens, and no two of them need be alike"
OWN_FLOPS = "not counted: there is no prediction for a model of one's own to hold the count against"
ON_THE_HOST = "the host computes itself: submitting and computing are one"


def step_work(session: TorchSession, arm: int) -> StepWork:
    """Decode a few steps of some batches under a profiler (on a GPU) or a counter of operators (elsewhere).

    They are steps in the middle of the run, whose contexts are those of the mean step.
    """
    device_type = session.model.device.type
    if session.plan.arms[arm].repeats and device_type != "cuda":
        return StepWork(arm, None, None, COMPILED_AWAY)
    if session.plan.arms[arm].proposes:
        return StepWork(arm, None, None, SEVERAL_TOKENS)
    batches, steps = session.batches.around_the_mean_step()
    on_gpu, team = device_type == "cuda", session.team
    busy_s = operations = exchanged_s = 0.0
    kernels: Counter[str] = Counter()
    for batch in batches:
        decoder = session.decoders.plain(arm)
        decoder.prepare(None)
        if on_gpu:  # what a length costs at its first time, a plan or a preparation, is no part of a step
            decoder.run(batch, steps + 1, Unobserved())
        watch: _Kernels | _Operators = _Kernels(session.clock, batch.input_ids.device) if on_gpu else _Operators()
        try:
            decoder.run(batch, steps + 1, watch)
        finally:
            watch.stop()
        busy_s += watch.busy_s
        operations += watch.operations
        kernels.update(watch.kernels)
        exchanged_s += sum(seconds for name, seconds in watch.kernels.items() if is_exchange(name))
        if team.size > 1 and not on_gpu:  # operators are counted in a run of their own
            exchanged_s += _exchanged_on_host(session, arm, batch, steps)
    count = steps * len(batches)
    # A rank that arrives early waits inside of an exchange: the one that waits least shows what exchanging takes.
    communication_s = min(team.gathered(exchanged_s)) / count if team.size > 1 else None
    if not operations:
        return StepWork(arm, None, None, "the profiler saw no decode step")
    if not on_gpu:
        return StepWork(arm, operations / count, None, ON_THE_HOST, communication_s=communication_s)
    return StepWork(arm, operations / count, busy_s / count, kernels=_shares(kernels), communication_s=communication_s)


def _exchanged_on_host(session: TorchSession, arm: int, batch: PromptBatch, steps: int) -> float:
    """Seconds that gloo takes in the decode steps of a batch, from the first token on."""
    decoder = session.decoders.plain(arm)
    decoder.prepare(None)
    watch = _Exchanges()
    try:
        decoder.run(batch, steps + 1, watch)
    finally:
        watch.stop()
    return watch.seconds


class _Exchanges:
    """An observer that profiles what a CPU's ranks exchange from the first token on."""

    def __init__(self) -> None:
        self._profile: Any = None
        self.seconds = 0.0

    def on_token(self, index: int, token_ids: Any) -> None:  # noqa: ARG002 - the observer's shape
        if index == 0:
            self._profile = profile(activities=[ProfilerActivity.CPU], acc_events=True)
            self._profile.start()

    def stop(self) -> None:
        if self._profile is not None:
            self._profile.stop()
            spans = [
                (event.time_range.start, event.time_range.end)
                for event in self._profile.events()
                if is_exchange(event.name)
            ]
            self.seconds = covered(spans) * 1e-6


def _shares(kernels: Counter[str]) -> tuple[KernelShare, ...]:
    """The kernels that take most of the time, and the attention that takes most, with their shares of all of it."""
    ordered = kernels.most_common()
    shown = ordered[:LARGEST_KERNELS]
    shown += [each for each in ordered[LARGEST_KERNELS:] if is_attention(each[0])][:1]
    total = kernels.total() or 1.0
    return tuple(KernelShare(name=name[:LONGEST_NAME], share=seconds / total) for name, seconds in shown)


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """How long at least one of the spans lasts: kernels may begin while others end."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


class _Kernels:
    """An observer that profiles the device from the first token on."""

    def __init__(self, clock: Clock, device: torch.device) -> None:
        self._clock = clock
        self._device = device
        self._profile: Any = None
        self.busy_s = 0.0
        self.operations = 0
        self.kernels: Counter[str] = Counter()  # seconds by name

    def on_token(self, index: int, token_ids: Any) -> None:  # noqa: ARG002 - the observer's shape
        if index == 0:
            self._clock.synchronise()  # kernels of the prefill do not count
            self._profile = device_profile(self._device)
            self._profile.start()

    def stop(self) -> None:
        if self._profile is None:
            return
        self._clock.synchronise()
        self._profile.stop()
        spans: list[tuple[float, float]] = []
        for event in self._profile.events():
            if event.device_type.name != "CPU":
                spans.append((event.time_range.start, event.time_range.end))
                self.kernels[event.name] += event.time_range.elapsed_us() * 1e-6
                self.operations += 1
        self.busy_s = covered(spans) * 1e-6


class _Operators(TorchDispatchMode):
    """An observer that counts the operators that are called from the first token on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.busy_s = 0.0
        self.operations = 0
        self.kernels: Counter[str] = Counter()
        self._entered = False

    def on_token(self, index: int, token_ids: Any) -> None:  # noqa: ARG002 - the observer's shape
        if index == 0:
            self.__enter__()  # type: ignore[no-untyped-call]
            self._entered = True

    def stop(self) -> None:
        if self._entered:
            self._entered = False
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


def counted_flops(session: TorchSession) -> CountedFlops:
    """FLOPs of a prefill of the first batch; none for a model of one's own, for which they are not predicted."""
    batch = session.batches[0]
    if session.model.is_own:
        rows, tokens = batch.input_ids.shape
        return CountedFlops(rows, tokens, None, OWN_FLOPS)
    return of_all_ranks(session.team.gathered(flops_of_prefill(session.model.forward, batch)))


def of_all_ranks(counted: Sequence[CountedFlops]) -> CountedFlops:
    """What ranks counted, each its own part, added up; the reason of the first one that could not."""
    first = counted[0]
    if len(counted) == 1:
        return first
    flops = None if any(each.flops is None for each in counted) else sum(each.flops or 0 for each in counted)
    reason = next((each.reason for each in counted if each.reason), None)
    weights = None
    if all(each.weights is not None for each in counted):
        weights = {
            part: {key: sum((each.weights or {})[part][key] for each in counted) for key in share}
            for part, share in (first.weights or {}).items()
        }
    return CountedFlops(first.batch, first.tokens, flops, reason, weights)


def flops_of_prefill(forward: Forward, batch: PromptBatch) -> CountedFlops:
    """FLOPs of a prefill of a batch, or of its first tokens, and the weights that it reads.

    Under eager attention and eager experts, since the counter sees nothing inside SDPA on a CPU, nor inside grouped
    products. Both are put back. Where a model bears neither, its weights are still seen, and its FLOPs are None.
    """
    model, ids = forward.model, batch.input_ids[:, -COUNTED_TOKENS:]
    rows, tokens = ids.shape
    own, experts = attention_of(model), getattr(model.config, "_experts_implementation", None)
    positions = torch.arange(tokens, device=ids.device).expand(rows, tokens)
    plain = PromptBatch(0, ids, positions, None, (tokens,) * rows)

    def watched() -> PassWatch:
        with torch.no_grad(), PassWatch(model, rows * tokens, rows) as watch:
            forward.last_logits(ids, plain, tokens)
        return watch

    reason = None
    try:
        if own != "eager":
            model.set_attn_implementation("eager")
        if experts not in (None, "eager"):
            model.set_experts_implementation("eager")
        watch = watched()
        reason = None if watch.sees_all else UNSEEN
    except Exception as error:  # an architecture without eager attention, or with kernels that cannot be counted
        reason = f"torch's counter could not follow this model: {str(error).splitlines()[0]}"
    finally:
        if own != attention_of(model):
            model.set_attn_implementation(own)
        if experts not in (None, "eager"):
            model.set_experts_implementation(experts)
    if reason is None or reason == UNSEEN:
        return CountedFlops(rows, tokens, None if reason else watch.flops, reason, watch.parts())
    try:
        return CountedFlops(rows, tokens, None, reason, watched().parts())
    except Exception:  # the reason stands
        return CountedFlops(rows, tokens, None, reason)
