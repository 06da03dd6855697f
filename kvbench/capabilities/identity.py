"""What tells one arm from another, and the words for it: names, keys, the gate and the exports ask here."""

from __future__ import annotations

from kvbench.capabilities.caches import NO_CACHE
from kvbench.capabilities.combinations import ArmSpec
from kvbench.capabilities.engines import EAGER, usual_bucket, usual_compile_mode

# Every part of an arm, the mode first; one more is a row here and a field of ArmConfig, Arm and ArmRecord.
PARTS = ("mode", "cache", "engine", "attention", "habit", "compile_mode", "bucket", "cache_tokens")
BY_THEIR_VALUE = ("cache", "engine", "attention")  # whose values say what they are values of
ANY_ATTENTION = "auto"
NO_HABIT = "none"
GROWING = ("dynamic", "own")  # what goes without saying of an arm that keeps a past

Identity = dict[str, str | int | None]


def identity(arm: ArmSpec) -> Identity:
    """Every part of an arm by its name: two arms are the same when these are equal."""
    return {part: getattr(arm, part) for part in PARTS}


def unusual(arm: ArmSpec) -> dict[str, str]:
    """Words for the parts of an arm that are not what everybody has, by part, in the order of `PARTS`."""
    usual: Identity = {
        "mode": arm.mode,
        "cache": NO_CACHE,
        "engine": EAGER,
        "attention": ANY_ATTENTION,
        "habit": NO_HABIT,
        "compile_mode": usual_compile_mode(arm.engine),
        "bucket": usual_bucket(arm.mode, arm.engine),
        "cache_tokens": None,
    }
    return {
        part: in_words(part, value)
        for part, value in identity(arm).items()
        if value is not None and value != usual[part]
    }


def in_words(part: str, value: str | int | None) -> str:
    """A part of an arm as a person reads it, such as `static` or `bucket 128`."""
    return str(value) if part in BY_THEIR_VALUE else f"{part} {value}"


def label(arm: ArmSpec) -> str:
    """What a sentence calls an arm: its mode with its habit, and in brackets what else is unusual."""
    words = unusual(arm)
    habit = words.pop("habit", None)
    if arm.cache in GROWING:
        words.pop("cache")
    name = arm.mode if habit is None else f"{arm.mode} with {arm.habit}"
    return f"{name} ({', '.join(words.values())})" if words else name
