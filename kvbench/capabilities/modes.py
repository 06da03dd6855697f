"""The ways of decoding, and the habits that a loop can have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """A way of decoding: what it submits at each step, whether it keeps a past, which habits it has by itself."""

    name: str
    summary: str
    keeps_past: bool
    habits: tuple[str, ...] = ()
    ours: bool = True  # whether the loop is kvbench's own, so that it can be interrupted and take habits


@dataclass(frozen=True)
class Habit:
    """Something that hand-written loops do at every step without need, and the modes that can be seen doing it."""

    name: str
    summary: str
    modes: tuple[str, ...] = ("nocache", "cached")


MODES = {
    mode.name: mode
    for mode in (
        Mode("nocache", "resubmits all output_ids at every step, last position's logits only", keeps_past=False),
        Mode(
            "nocache_naive",
            "the same as people first write it: all logits, a cache built and dropped",
            keeps_past=False,
            habits=("all_logits", "dropped_cache"),
        ),
        Mode("cached", "submits the newest token and the cache", keeps_past=True),
        Mode("generate", "transformers' generate() with its cache, as the reference", keeps_past=True, ours=False),
        Mode(
            "generate_nocache",
            "transformers' generate(use_cache=False), as the reference",
            keeps_past=False,
            ours=False,
        ),
        Mode(
            "interrupted",
            "loses its cache at interrupt.steps and resubmits all output_ids with an empty one",
            keeps_past=True,
        ),
        Mode("resumed", "appends what is inserted at interrupt.steps to the cache it has kept", keeps_past=True),
    )
}

# A mode that is a question about two ways of decoding runs both, the baseline first.
MODE_ARMS = {
    "both": ("nocache", "cached"),
    "interrupted": ("nocache", "cached", "interrupted"),
    "resumed": ("interrupted", "resumed"),
}
INTERRUPTED = ("interrupted", "resumed")  # the modes that are about interrupt.steps

HABITS = {
    habit.name: habit
    for habit in (
        Habit("autograd", "no torch.no_grad: every step builds the graph of a backward pass that never comes"),
        Habit("all_logits", "logits of every position, of which one is used"),
        Habit("dropped_cache", "use_cache left on: a cache is built at every step and dropped", ("nocache",)),
        Habit("python_list", "the input tensor is rebuilt from a Python list of ids"),
        Habit("host_read", "the newest token is read on the host"),
        Habit("whole_text", "the whole text is decoded again at every stream.interval tokens"),
    )
}
ALL_HABITS = "all"  # every habit at once, as the walk-through's loop has them


def habits_of(mode: str, habit: str) -> frozenset[str]:
    """The habits of an arm: those of its mode, and the one that is looked at, or all."""
    looked_at = tuple(HABITS) if habit == ALL_HABITS else () if habit == "none" else (habit,)
    return frozenset((*MODES[mode].habits, *looked_at))


def habit_conflict(mode: str, habit: str) -> str | None:
    """Why `mode` cannot have `habit`, or None when it can."""
    for name in habits_of(mode, habit) - set(MODES[mode].habits):
        if mode not in HABITS[name].modes:
            return f"mode {mode} cannot have the habit {name}, which is one of {' and '.join(HABITS[name].modes)}"
    return None
