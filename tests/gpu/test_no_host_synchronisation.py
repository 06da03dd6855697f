"""Between the first token and the last of a fixed-length run the host never waits for the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from host_waits import FIRST, LAST, host_waits
from torch.profiler import ProfilerActivity, profile, record_function

from kvbench.config.schema import SamplingConfig
from kvbench.decoding.caches import CacheMaker
from kvbench.decoding.engines.compiled import Compiled
from kvbench.decoding.engines.graph import Graph
from kvbench.decoding.forward import Forward, make_batch
from kvbench.decoding.loops import CachedLoop, Habits, Loop, NoCacheLoop
from kvbench.decoding.protocol import Unobserved
from kvbench.decoding.sampling import Sampler
from kvbench.decoding.settings import SessionSettings
from kvbench.passes import Buckets, Chunks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a CUDA device"),
    pytest.mark.filterwarnings("ignore:The CUDA Graph is empty"),  # torch.compile's own, while it warms up
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]

NEW_TOKENS = 12
PROMPTS = [list(range(5, 45)), list(range(30, 70))]
Make = Callable[[Any], Loop]


def cached(kind: str, **named: Any) -> Make:
    def make(model: Any) -> Loop:
        forward = Forward(model)
        kept = "engine" in named
        return CachedLoop(*parts(forward), caches=CacheMaker(forward, kind, kept=kept), **named)

    return make


def recompute(size: int, **named: Any) -> Make:
    return lambda model: NoCacheLoop(*parts(Forward(model)), buckets=Buckets(size), **named)


def parts(forward: Forward) -> tuple[Any, ...]:
    setting = SessionSettings("auto", forward.model.config._attn_implementation, 0)
    return forward, Sampler(SamplingConfig()), setting, 0


def graph() -> Graph:
    return Graph(torch.device("cuda"))


def compiled() -> Compiled:
    return Compiled(torch.device("cuda"), "reduce-overhead")


def fused() -> Any:
    from kvbench.decoding.engines.fused.step import Fused  # Triton is there on a GPU alone

    return Fused(torch.device("cuda"))


ARMS: dict[str, Callable[[], Make]] = {
    "cached, dynamic": lambda: cached("dynamic"),
    "cached, static": lambda: cached("static"),
    "cached, dynamic, chunked prefill": lambda: cached("dynamic", chunks=Chunks(16)),
    "cached, static, graph": lambda: cached("static", engine=graph()),
    "cached, static, compiled": lambda: cached("static", engine=compiled()),
    "cached, static, fused": lambda: cached("static", engine=fused()),
    "recompute, exact": lambda: recompute(1),
    "recompute, padded": lambda: recompute(64),
    "recompute, padded, graph": lambda: recompute(64, engine=graph()),
}
READING: dict[str, Callable[[], Make]] = {
    "cached": lambda: cached("dynamic", habits=Habits(frozenset({"host_read"}))),
    "recompute": lambda: recompute(1, habits=Habits(frozenset({"host_read"}))),
}


class Watch:
    """An observer that profiles from the first token to the last; `strict` has torch raise at its own waits too."""

    def __init__(self, *, strict: bool) -> None:
        self._mode = "error" if strict else "default"
        self._profile = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True)
        self._running = False

    def on_token(self, index: int, token_ids: Any) -> None:
        if index == 0:
            torch.cuda.synchronize()  # what the prefill left to do is not looked at
            self._profile.start()
            self._running = True
            with record_function(FIRST):
                pass
            torch.cuda.set_sync_debug_mode(self._mode)
        if index == NEW_TOKENS - 1:
            torch.cuda.set_sync_debug_mode("default")
            with record_function(LAST):
                pass

    def stop(self) -> None:
        torch.cuda.set_sync_debug_mode("default")
        if self._running:
            torch.cuda.synchronize()
            self._profile.stop()

    def waits(self) -> list[str]:
        return host_waits(self._profile.events())


@pytest.fixture
def model(tiny_model: Callable[..., Any]) -> Iterator[Any]:
    wide = {"hidden_size": 256, "head_dim": 64, "num_key_value_heads": 4, "vocab_size": 300}
    yield tiny_model("llama", **wide).to("cuda", torch.bfloat16)
    torch.cuda.set_sync_debug_mode("default")


def watched(loop: Loop, *, strict: bool) -> list[str]:
    """What waits in a second run: first visits, captures among them, may wait."""
    batch = make_batch(0, PROMPTS, NEW_TOKENS, torch.device("cuda"))
    loop.prepare(None)
    loop.run(batch, NEW_TOKENS, Unobserved())
    watch = Watch(strict=strict)
    try:
        loop.run(batch, NEW_TOKENS, watch)
    finally:
        watch.stop()
    return watch.waits()


@pytest.mark.parametrize("arm", ARMS)
def test_no_arm_waits_while_it_decodes(model: Any, arm: str) -> None:
    assert [] == watched(ARMS[arm]()(model), strict=True)


@pytest.mark.parametrize("arm", READING)
def test_the_check_sees_a_loop_that_reads_every_token(model: Any, arm: str) -> None:
    waits = watched(READING[arm]()(model), strict=False)
    copies = [name for name in waits if name.startswith("Memcpy DtoH")]
    assert NEW_TOKENS - 1 <= len(copies)
    assert any(name.startswith("cudaStreamSynchronize") for name in waits)


@pytest.mark.parametrize("arm", READING)
def test_torch_itself_refuses_a_loop_that_reads_every_token(model: Any, arm: str) -> None:
    with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
        watched(READING[arm]()(model), strict=True)
