"""Which mode, cache, engine and attention make an arm: every rule once, each in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kvbench.capabilities.attentions import (
    GROWING_ONLY_ATTENTION,
    PINNED_ATTENTION,
    attention_conflict,
    takes_masks,
)
from kvbench.capabilities.caches import CACHES, NO_CACHE
from kvbench.capabilities.engines import EAGER, ENGINES
from kvbench.capabilities.modes import MODES, habit_conflict


class ArmSpec(Protocol):
    """An arm as it is written or planned; what is None is left to its default."""

    @property
    def mode(self) -> str:
        """A key of `MODES`."""

    @property
    def cache(self) -> str | None:
        """A key of `CACHES`."""

    @property
    def engine(self) -> str:
        """A key of `ENGINES`."""

    @property
    def attention(self) -> str:
        """A key of `ATTENTIONS`."""

    @property
    def habit(self) -> str:
        """A key of `HABITS`, "none" or "all"."""

    @property
    def compile_mode(self) -> str | None:
        """A key of `COMPILE_MODES`."""

    @property
    def bucket(self) -> int | None:
        """Tokens to whose multiples a pass without a cache is padded."""

    @property
    def cache_tokens(self) -> int | None:
        """Length of a static cache."""


def arm_conflict(arm: ArmSpec) -> str | None:
    """Why these parts make no arm on any device, or None when they do."""
    return next((conflict for conflict in _conflicts(arm) if conflict is not None), None)


def device_conflict(arm: ArmSpec, device_type: str) -> str | None:
    """Why an arm cannot run on a device of this type ("cpu", "cuda", "mps"), or None when it can."""
    engine = ENGINES[arm.engine]
    if device_type not in engine.devices:
        return f"engine={arm.engine} needs a {engine.devices[-1]} device, the run is on {device_type}: use engine=eager"
    if arm.mode == "generate" and arm.engine != EAGER and device_type != "cuda":
        return f"generate compiles on a CUDA device only, the run is on {device_type}: use engine=eager"
    if arm.cache is not None and arm.cache in CACHES and CACHES[arm.cache].offloaded and device_type != "cuda":
        return f"cache={arm.cache} moves layers between a GPU and the host, the run is on {device_type}: leave it out"
    is_static = arm.cache is not None and arm.cache in CACHES and CACHES[arm.cache].static
    if is_static and not takes_masks(arm.attention, device_type):  # what is not written yet is masked
        return f"attention={arm.attention} takes no mask on {device_type}, and cache {arm.cache} needs one"
    return attention_conflict(arm.attention, device_type)


def _conflicts(arm: ArmSpec) -> Iterable[str | None]:
    mode, engine = MODES[arm.mode], ENGINES[arm.engine]
    cache = CACHES.get(arm.cache) if arm.cache is not None else None  # a model of one's own has none of these
    yield habit_conflict(arm.mode, arm.habit)
    if cache is not None and mode.keeps_past == (cache.name == NO_CACHE):
        wanted = "a cache, such as dynamic" if mode.keeps_past else f"cache {NO_CACHE}"
        yield f"mode {arm.mode} goes with {wanted}, not {cache.name}"
    if arm.mode not in engine.modes:
        yield f"engine {arm.engine} goes with mode {' or '.join(engine.modes)}, not {arm.mode}"
    if arm.engine != EAGER and mode.keeps_past and cache is not None and not cache.static:
        yield f"engine {arm.engine} repeats a step of one shape: set cache=static, not {cache.name}"
    if arm.engine != EAGER and cache is not None and cache.static and cache.offloaded:
        yield f"engine {arm.engine} repeats a step over tensors that stay in place, and cache {cache.name} moves them"
    if arm.engine != EAGER and arm.habit != "none":
        yield f"engine {arm.engine} goes with no habit, not {arm.habit}"
    if arm.mode == "generate" and arm.engine != EAGER and arm.attention in PINNED_ATTENTION:
        yield f"generate compiles once for all of SDPA's backends: leave attention={arm.attention} out"
    if engine.attentions is not None and arm.attention not in engine.attentions:
        yield f"engine {arm.engine} has an attention of its own: leave attention={arm.attention} out"
    if arm.attention in GROWING_ONLY_ATTENTION and cache is not None and cache.static:
        yield f"attention {arm.attention} goes with a cache that grows, such as dynamic, not {cache.name}"
    if arm.attention == "flex" and arm.engine != EAGER:
        yield f"attention flex compiles itself and goes with engine eager, not {arm.engine}"
