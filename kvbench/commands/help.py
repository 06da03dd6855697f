"""Our own help pages: no composition, so that they answer at once.

`--help` fits a screen or two. `help TOPIC`, or `--help TOPIC`, tells of one key, one group, or what a key chooses from;
`help all` of every key.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence

import kvbench
from kvbench.capabilities import (
    ATTENTIONS,
    CACHES,
    ENGINES,
    HABITS,
    MODE_ARMS,
    MODES,
    NO_CACHE,
    QUANTIZATIONS,
    Mode,
)
from kvbench.commands import SUBCOMMANDS
from kvbench.config.conditions import SCRIPTED
from kvbench.config.conf_files import conf_folder, ready_files
from kvbench.config.schema import Config
from kvbench.errors import ConfigError
from kvbench.options import settings

Rows = list[tuple[str, str]]

EXAMPLES = (
    ("(nothing more)", "both modes on the embedded model"),
    ("model=gemma2b mode=cached", "one mode on one model"),
    ("model=Qwen/Qwen3-0.6B", "any model of the hub, or model=./folder"),
    ("model=gemma2b model.weights=random", "the real shape without its weights"),
    ("model=python model.target=mine:build", "a model that you wrote, with its own cache"),
    ("-m workload.prompt_tokens=128,512", "a sweep: where does a cache begin to pay?"),
    ("experiment=scaling", "how a step grows with the context"),
    ("--config-path last", "repeat the newest run from its config.yaml"),
    ("doctor --ceilings", "how far is a run from the hardware limit?"),
)
SCRIPT = "model=scripted"
WIDEST_LEFT = 34  # columns of what is explained; longer words have a line of their own
WIDEST = 120
GROUP_WIDTH = len("model.quantization") + 2
ALL = "all"


def main(argv: Sequence[str]) -> int:
    """Print a page, or the version. Raises `ConfigError` for a topic that there is not."""
    if argv and argv[0] == "--version":
        text = kvbench.__version__
    else:
        with_script = SCRIPT in argv
        topics = [word for word in argv if word not in ("help", "-h", "--help") and "=" not in word]
        width = min(shutil.get_terminal_size().columns, WIDEST)
        if topics:
            lines = [line for topic in topics for line in _topic(topic, width, with_script)]
        else:
            lines = list(_keys(width, with_script) if with_script else _page(width))
        text = "\n".join(lines)
    print(text)  # noqa: T201 - this is the command's output
    return 0


def _page(width: int) -> Iterator[str]:
    yield from _wrapped(
        "kvbench measures how much faster a KV cache makes decoding, how much memory it costs, and whether the model"
        " still writes the same text.",
        width,
    )
    yield from _section("python -m kvbench …", EXAMPLES, width)
    yield from _section(
        "commands", (("[KEY=VALUE ...]", "measure; -m sweeps over KEY=A,B,C"), *SUBCOMMANDS.items()), width
    )
    yield ""
    yield from _wrapped("settings, as KEY=VALUE (`help KEY` explains one, `help all` all of them)", width)
    for group, names in _grouped():
        yield from _wrapped(f"{group:<{GROUP_WIDTH}}{' '.join(names)}", width, "  ", " " * (GROUP_WIDTH + 2))
    yield ""
    yield from _wrapped(
        "-m (sweep)   --dry-run   --config-path RUN_FOLDER|last   --config-dir DIR   --config-name NAME   --cfg job"
        " (print the configuration, run nothing)   -sc install=bash|zsh|fish   --version",
        width,
        "options: ",
        " " * 9,
    )
    yield from _wrapped(
        "0 valid, 1 failed, 2 bad input, 3 measured but INVALID, 130 Ctrl-C", width, "exit codes: ", " " * 12
    )


def _grouped() -> Iterator[tuple[str, list[str]]]:
    """Each group of keys with what it chooses from, or with its keys."""
    yield "model", ready_files("model")
    for name, choices in CHOICES.items():
        yield name, [left for left, _ in choices()]
    keys: dict[str, list[str]] = {}
    for key, _, metadata in settings(Config()):
        group, _, last = key.rpartition(".")
        if metadata.get("effective") is not SCRIPTED and key not in CHOICES and group != "model":
            keys.setdefault(group or "others", []).append(last)
    yield "experiment", ready_files("experiment")
    yield from keys.items()


def _topic(topic: str, width: int, with_script: bool) -> Iterator[str]:
    """What there is to say of a word. Raises `ConfigError` for one that means nothing."""
    if topic in (ALL, "keys"):
        yield from _keys(width, with_script)
        return
    known = {key: (value, metadata) for key, value, metadata in settings(Config())}
    names = (topic,) if topic in known else tuple(key for key in known if key.startswith(f"{topic}."))
    ready = ready_files(topic) if (conf_folder() / topic).is_dir() else []
    choices = CHOICES.get(topic)
    if topic in SUBCOMMANDS:
        yield from _section(topic, [(f"python -m kvbench {topic} --help", SUBCOMMANDS[topic])], width)
    elif not names and not ready and choices is None:
        from kvbench.config.spelling import meant_keys

        meant = f"did you mean {' or '.join(found)}?" if (found := meant_keys(topic)) else "`help all` lists the keys"
        raise ConfigError(f"{topic}: no such key; {meant}")
    if names:
        rows = [(_with_default(key, known[key][0]), _explained(known[key][1], choices is None)) for key in names]
        yield from _section("key (default)", rows, width)
    if ready and choices is None:
        yield from _section(f"{topic}=", [(name, _described(topic, name)) for name in ready], width)
    if choices is not None:
        yield from _section(f"{topic}=", choices(), width)


def _keys(width: int, with_script: bool) -> Iterator[str]:
    rows = [
        (_with_default(key, value), str(metadata["help"]))
        for key, value, metadata in settings(Config())
        if with_script or metadata.get("effective") is not SCRIPTED
    ]
    yield from _section("keys (default)", rows, width)
    if not with_script:
        yield from _wrapped(
            f"the keys of the scripted model, which tests the instrument: python -m kvbench {SCRIPT} --help",
            width,
            "  ",
        )


def _explained(metadata: dict[str, object], with_bounds: bool) -> str:
    bounds = _bounds(metadata) if with_bounds else ""
    return f"{metadata['help']} ({bounds})" if bounds else str(metadata["help"])


def _with_default(key: str, value: object) -> str:
    return key if value is None else f"{key} ({str(value).lower() if isinstance(value, bool) else value})"


def _bounds(metadata: dict[str, object]) -> str:
    if metadata["choices"]:
        return f"one of {', '.join(map(str, metadata['choices']))}"  # type: ignore[call-overload]
    bounds = (("minimum", "at least"), ("above", "more than"))
    return ", ".join(f"{words} {metadata[name]:g}" for name, words in bounds if metadata[name] is not None)


def _described(group: str, name: str) -> str:
    """The first comment of a ready file that says something."""
    lines = (conf_folder() / group / f"{name}.yaml").read_text("utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ") and not line.startswith("# @")), "")


# What keys choose from, with a summary of each.


def _modes() -> Rows:
    beside = {name: f"runs {', '.join(arms)}" for name, arms in MODE_ARMS.items()}
    return [("both", beside["both"]), *((mode.name, _summary(mode, beside)) for mode in MODES.values())]


def _summary(mode: Mode, beside: dict[str, str]) -> str:
    """What the mode does; as a setting of its own it may bring other arms along."""
    return f"{mode.summary}; {beside[mode.name]}" if mode.name in beside else mode.summary


CHOICES: dict[str, Callable[[], Rows]] = {
    "mode": _modes,
    "cache": lambda: [(kind.name, kind.summary) for kind in CACHES.values() if kind.name != NO_CACHE],
    "engine": lambda: [(engine.name, engine.summary) for engine in ENGINES.values()],
    "attention": lambda: list(ATTENTIONS.items()),
    "model.quantization": lambda: [(route.name, route.summary) for route in QUANTIZATIONS.values()],
    "habit": lambda: [(habit.name, habit.summary) for habit in HABITS.values()],
}


# Lines of the pages.


def _section(title: str, rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    yield ""
    yield title
    left_width = min(max((len(left) for left, _ in rows), default=0), WIDEST_LEFT if width < WIDEST else 58)
    for left, right in rows:
        if len(left) > left_width:
            yield f"  {left}"
            yield from _wrapped(right, width, " " * (left_width + 4))
        else:
            yield from _wrapped(right, width, f"  {left:<{left_width}}  ", " " * (left_width + 4))


def _wrapped(text: str, width: int, first: str = "", later: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=first,
        subsequent_indent=first if later is None else later,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]
