"""An arm, one way of decoding under test: its parts, its names, and the rules of what goes together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from kvbench.capabilities import (
    ALL_HABITS,
    ATTENTIONS,
    CACHES,
    COMPILE_MODES,
    CROPPABLE,
    EAGER,
    ENGINES,
    GROWING_ONLY_ATTENTION,
    HABITS,
    MODES,
    NO_CACHE,
    NO_HABIT,
    OWN_CACHE,
    PINNED_ATTENTION,
    STATIC_STEP,
    USUAL_BUCKET,
    USUAL_COMPILE_MODE,
    CacheKind,
    attention_conflict,
    habit_conflict,
    static_length,
    takes_masks,
)
from kvbench.options import Condition, setting, without_weights
from kvbench.text import printable

if TYPE_CHECKING:
    CacheName = str
else:  # in a list of arms it may be left out; every arm that is planned or recorded has one
    CacheName = str | None

# When a part has an effect.
TRANSFORMERS_MODEL = (without_weights("python", remedy="choose another model"),)
KEEPS_A_CACHE = (
    Condition(
        lambda _, arms: any(arm.keeps_past for arm in arms),
        "without a mode that keeps a cache",
        "use one such as mode=cached",
    ),
)
CACHE_OF_OURS = (
    *KEEPS_A_CACHE,
    without_weights("python", remedy="model=python brings its own cache; choose another model"),
)
COMPILED = (
    Condition(
        lambda _, arms: any(arm.engine == "compiled" for arm in arms), "without engine=compiled", "set engine=compiled"
    ),
)
PADDED = (
    Condition(lambda _, arms: any(arm.mode == "nocache" for arm in arms), "without mode=nocache", "use mode=nocache"),
    *TRANSFORMERS_MODEL,
)
STATIC_CACHE = (
    *CACHE_OF_OURS,
    Condition(lambda _, arms: any(arm.is_static for arm in arms), "without a static cache", "set cache=static"),
    Condition(
        lambda _, arms: any(arm.is_static and MODES[arm.mode].ours for arm in arms),
        "with generate, which sizes its static cache itself",
    ),
)


@dataclass(frozen=True)
class Arm:
    """One way of decoding, as it is written, planned and recorded. What is None in a list of arms is left out."""

    mode: str = setting("cached", "way of decoding", choices=tuple(MODES))
    cache: CacheName = setting(None, "kind of cache", choices=tuple(CACHES), effective=CACHE_OF_OURS, off=NO_CACHE)
    engine: str = setting(EAGER, "how a step is executed", choices=tuple(ENGINES), effective=TRANSFORMERS_MODEL)
    attention: str = setting(
        "auto",
        "attention implementation or pinned SDPA backend",
        choices=tuple(ATTENTIONS),
        effective=TRANSFORMERS_MODEL,
    )
    habit: str = setting(
        NO_HABIT, "a habit of hand-written loops to look at, or all of them", choices=(NO_HABIT, *HABITS, ALL_HABITS)
    )
    compile_mode: str | None = setting(
        None,
        f"engine=compiled: how (default: {USUAL_COMPILE_MODE})",
        choices=tuple(COMPILE_MODES),
        effective=COMPILED,
    )
    bucket: int | None = setting(
        None,
        "pad passes without a cache to multiples of so many tokens (default: exact lengths;"
        f" {USUAL_BUCKET} where an engine repeats passes)",
        minimum=1,
        effective=PADDED,
    )
    cache_tokens: int | None = setting(
        None,
        f"length of a static cache (default: what the run needs, up to a multiple of {STATIC_STEP})",
        minimum=1,
        effective=STATIC_CACHE,
    )

    @property
    def keeps_past(self) -> bool:
        """Whether a step relies on what earlier steps left behind."""
        return MODES[self.mode].keeps_past

    @property
    def proposes(self) -> bool:
        """Whether its passes check proposed tokens, so that one of them may make several."""
        return self.mode in MODES and MODES[self.mode].proposes  # a record may be of another version's mode

    @property
    def repeats(self) -> bool:
        """Whether its engine prepares a pass of one shape and then repeats it; the first visit pays for that."""
        return self.engine != EAGER

    @property
    def cache_kind(self) -> CacheKind | None:
        """The row of its cache in the table; None for what a model of one's own keeps."""
        return CACHES.get(self.cache)

    @property
    def is_static(self) -> bool:
        """Whether its cache is allocated whole at the start."""
        return self.cache_kind is not None and self.cache_kind.static

    @property
    def is_lossy(self) -> bool:
        """Whether its cache gives back other numbers than it was given."""
        return self.cache_kind is not None and self.cache_kind.lossy

    @property
    def has_windows(self) -> bool:
        """Whether a static cache of it keeps layers with a window at their window: not where a step is repeated."""
        return not (self.repeats and MODES[self.mode].ours)

    @property
    def parts(self) -> dict[str, str | int | None]:
        """Every part by its name: two arms are the same when these are equal."""
        return {part: getattr(self, part) for part in PARTS}

    @property
    def unusual(self) -> dict[str, str]:
        """Words for the parts that are not what everybody has, by part, in the order of `PARTS`."""
        usual = {**USUAL, **{part: follows(self) for part, follows in FOLLOWS.items()}, "cache": NO_CACHE}
        return {
            part: in_words(part, value)
            for part, value in self.parts.items()
            if part != "mode" and value is not None and value != usual[part]
        }

    @property
    def name(self) -> str:
        """What it is called in a table: `nocache`, `cached (dynamic)`, `cached (static, compiled)`."""
        details = self.unusual.values()
        return printable(f"{self.mode} ({', '.join(details)})" if details else self.mode)

    @property
    def label(self) -> str:
        """What a sentence calls it: its mode with its habit, and in brackets what else is unusual."""
        words = self.unusual
        habit = words.pop("habit", None)
        if self.cache in GOES_WITHOUT_SAYING:
            words.pop("cache")
        name = self.mode if habit is None else f"{self.mode} with {self.habit}"
        return f"{name} ({', '.join(words.values())})" if words else name

    def whole(self, *, own_model: bool) -> Arm:
        """The same with what follows from its mode and engine where that was left out."""
        cache = OWN_CACHE if own_model and self.keeps_past else self.cache or self._usual_cache
        follow: dict[str, Any] = {part: getattr(self, part) or follows(self) for part, follows in FOLLOWS.items()}
        return replace(self, cache=cache, **follow)

    def static_cache_length(self, needed_tokens: int) -> int:
        """Tokens that its static cache is allocated for when a run needs so many."""
        if not MODES[self.mode].ours:
            return needed_tokens - 1  # generate's own choice: all but the newest token
        return self.cache_tokens or static_length(needed_tokens)

    @property
    def _usual_cache(self) -> str:
        if not self.keeps_past:
            return NO_CACHE
        return "static" if self.repeats else "dynamic"


# The name and type of every part, the mode first.
PARTS: dict[str, type] = {part.name: int if str(part.type).startswith("int") else str for part in fields(Arm)}
USUAL = {part.name: part.default for part in fields(Arm)}
# What follows from the rest of an arm where it is left out; its cache, which a name always tells, is not among them.
FOLLOWS: dict[str, Callable[[Arm], str | int | None]] = {
    "compile_mode": lambda arm: USUAL_COMPILE_MODE if arm.engine == "compiled" else None,
    "bucket": lambda arm: USUAL_BUCKET if arm.mode == "nocache" and arm.repeats else None,
}
# Why there is none of a part, where nothing follows either.
WHY_NONE = {
    "compile_mode": "the engine compiles nothing",
    "bucket": "passes have their exact lengths",
    "cache_tokens": "no length was asked for: a static cache has what the run needs, others grow",
}
# What the keys beside `mode` say is said of every arm for which it means something.
MEANT_FOR: dict[str, Callable[[Arm], bool]] = {
    "cache": lambda arm: arm.keeps_past,
    "bucket": lambda arm: arm.mode == "nocache",
    "cache_tokens": lambda arm: arm.keeps_past,
}
SAID_BY_THEIR_VALUE = ("cache", "engine", "attention")  # whose values say what they are values of
GOES_WITHOUT_SAYING = ("dynamic", OWN_CACHE)  # in a sentence about an arm that keeps a past


def arms_of_modes(modes: Iterable[str], shared: Mapping[str, Any]) -> tuple[Arm, ...]:
    """An arm for each mode, with as much of the `shared` parts as means something for it."""
    arms = []
    for mode in modes:
        arm = Arm(**{**shared, "mode": mode})
        meaningless: dict[str, Any] = {part: None for part, is_meant in MEANT_FOR.items() if not is_meant(arm)}
        arms.append(replace(arm, **meaningless))
    return tuple(arms)


def in_words(part: str, value: str | int | None) -> str:
    """A part of an arm as a person reads it, such as `static` or `bucket 128`."""
    return str(value) if part in SAID_BY_THEIR_VALUE else f"{part} {value}"


def arm_names(arms: Sequence[Arm]) -> tuple[str, ...]:
    """One name per arm of a run, told apart by a number where two arms are the same (an A/A run)."""
    names = [arm.name for arm in arms]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    seen: Counter[str] = Counter()
    told_apart = []
    for name in names:
        seen[name] += 1
        told_apart.append(f"{name} #{seen[name]}" if name in repeated else name)
    return tuple(told_apart)


# The rules: every one once, each in one sentence.
def arm_conflict(arm: Arm) -> str | None:
    """Why these parts make no arm on any device, or None when they do."""
    return next((conflict for conflict in _conflicts(arm) if conflict is not None), None)


def device_conflict(arm: Arm, device_type: str) -> str | None:
    """Why an arm cannot run on a device of this type ("cpu", "cuda", "mps"), or None when it can."""
    engine = ENGINES[arm.engine]
    if device_type not in engine.devices:
        return f"engine={arm.engine} needs a {engine.devices[-1]} device, the run is on {device_type}: use engine=eager"
    if arm.mode == "generate" and arm.repeats and device_type != "cuda":
        return f"generate compiles on a CUDA device only, the run is on {device_type}: use engine=eager"
    if arm.cache_kind is not None and arm.cache_kind.offloaded and device_type != "cuda":
        return f"cache={arm.cache} moves layers between a GPU and the host, the run is on {device_type}: leave it out"
    if arm.is_static and not takes_masks(arm.attention, device_type):  # what is not written yet is masked
        return f"attention={arm.attention} takes no mask on {device_type}, and cache {arm.cache} needs one"
    return attention_conflict(arm.attention, device_type)


def too_short(arm: Arm, needed_tokens: int) -> str | None:
    """Why a static cache of this length cannot hold the run, or None when it can."""
    if arm.cache_tokens is None or arm.cache_tokens >= needed_tokens:
        return None
    return (
        f"cache_tokens={arm.cache_tokens}: a static cache of that length is too short for the run, which needs"
        f" {needed_tokens} (prompt and new tokens)"
    )


def _conflicts(arm: Arm) -> Iterable[str | None]:
    mode, engine, cache = MODES[arm.mode], ENGINES[arm.engine], arm.cache_kind
    yield habit_conflict(arm.mode, arm.habit)
    if cache is not None and mode.keeps_past == (cache.name == NO_CACHE):
        wanted = "a cache, such as dynamic" if mode.keeps_past else f"cache {NO_CACHE}"
        yield f"mode {arm.mode} goes with {wanted}, not {cache.name}"
    if (mode.proposes or arm.mode == "prefix") and cache is not None and cache.name not in (NO_CACHE, *CROPPABLE):
        what = "takes rejected tokens out of its cache" if mode.proposes else "copies its cache to other sequences"
        yield f"mode {arm.mode} {what}: use cache={' or '.join(CROPPABLE)}, not {cache.name}"
    if arm.mode not in engine.modes:
        yield f"engine {arm.engine} goes with mode {' or '.join(engine.modes)}, not {arm.mode}"
    if arm.repeats and mode.keeps_past and cache is not None and not cache.static:
        yield f"engine {arm.engine} repeats a step of one shape: set cache=static, not {cache.name}"
    if arm.repeats and cache is not None and cache.static and cache.offloaded:
        yield f"engine {arm.engine} repeats a step over tensors that stay in place, and cache {cache.name} moves them"
    if arm.repeats and arm.habit != NO_HABIT:
        yield f"engine {arm.engine} goes with no habit, not {arm.habit}"
    if arm.mode == "generate" and arm.repeats and arm.attention in PINNED_ATTENTION:
        yield f"generate compiles once for all of SDPA's backends: leave attention={arm.attention} out"
    if engine.attentions is not None and arm.attention not in engine.attentions:
        yield f"engine {arm.engine} has an attention of its own: leave attention={arm.attention} out"
    if arm.attention in GROWING_ONLY_ATTENTION and cache is not None and cache.static:
        yield f"attention {arm.attention} goes with a cache that grows, such as dynamic, not {cache.name}"
    if arm.attention == "flex" and arm.repeats:
        yield f"attention flex compiles itself and goes with engine eager, not {arm.engine}"
