"""Our own help page: no composition, so that it answers at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import kvbench
from kvbench.capabilities import ATTENTIONS, CACHES, HABITS, MODE_ARMS, MODES, NO_CACHE, QUANTIZATIONS, Mode
from kvbench.commands import SUBCOMMANDS
from kvbench.config.conditions import SCRIPTED
from kvbench.config.conf_files import ready_files
from kvbench.config.schema import Config
from kvbench.options import settings

EXAMPLES = (
    ("python -m kvbench", "both modes on the embedded model: no download, no GPU"),
    ("python -m kvbench model=gemma2b mode=cached", "one mode on one model"),
    ("python -m kvbench model=gemma2b model.weights=random", "the real shape without its weights"),
    ("python -m kvbench model=Qwen/Qwen3-0.6B", "any causal model of the hub; model=./folder for one on this machine"),
    ("python -m kvbench model=python model.target=mine:build", "a model that you wrote, with its own cache"),
    ("python -m kvbench -m workload.prompt_tokens=128,512,2048", "a sweep: where does the cache begin to pay?"),
    ("python -m kvbench experiment=scaling", "how a step grows with the context, and the break-even length"),
    ("python -m kvbench doctor --ceilings", "measure this machine once: runs then tell how far from it they are"),
    ("python -m kvbench experiment=habits", "what each habit of hand-written loops costs"),
    ("python -m kvbench mode=resumed", "a conversation: what does a kept cache save at every turn?"),
    ("python -m kvbench experiment=all_modes", "the hand-written loops against transformers' own"),
    ("python -m kvbench --config-path RUN_FOLDER", "repeat a run from its config.yaml"),
)
SCRIPT = "model=scripted"


def main(argv: Sequence[str]) -> int:
    """Print the page, or the version."""
    text = kvbench.__version__ if argv and argv[0] == "--version" else "\n".join(_page(SCRIPT in argv))
    print(text)  # noqa: T201 - this is the command's output
    return 0


def _page(with_script: bool) -> Iterator[str]:
    yield "kvbench: what a KV cache buys when a language model decodes, what it costs, is the output the same?"
    yield ""
    yield "The same prompts go through a loop that resubmits all tokens at every step (nocache) and one that submits a"
    yield "single token and the cache (cached), in interleaved blocks. The speed-up comes with an interval."
    yield from _section("examples", EXAMPLES)
    yield from _section("commands", (("[KEY=VALUE ...]", "measure; -m sweeps over KEY=A,B,C"), *SUBCOMMANDS.items()))
    yield from _section("mode=", (("both", _beside("both")), *((mode.name, _summary(mode)) for mode in MODES.values())))
    yield from _section("cache=", ((kind.name, kind.summary) for kind in CACHES.values() if kind.name != NO_CACHE))
    yield from _section("attention=", ATTENTIONS.items())
    yield from _section("model.quantization=", ((route.name, route.summary) for route in QUANTIZATIONS.values()))
    yield from _section("arms=[{mode: nocache, habit: …}]", ((habit.name, habit.summary) for habit in HABITS.values()))
    yield ""
    yield f"model=   {' '.join(ready_files('model'))}"
    for group in ("workload", "sampling", "check", "measure", "experiment"):
        yield f"{group}=   {' '.join(ready_files(group))}"
    yield from _section("keys (default)", _keys(with_script))
    if not with_script:
        yield f"  the keys of the scripted model, which tests the instrument: python -m kvbench {SCRIPT} --help"
    yield ""
    yield "options: -m, --multirun   --config-dir DIR (your own YAML files)   --config-path DIR   --config-name NAME"
    yield "         --cfg job (print the configuration, run nothing)   --version"
    yield '         -sc install=bash (or zsh, fish: shell completion, for eval "$(...)")'
    yield "exit codes: 0 valid, 1 failed, 2 bad input, 3 measured but INVALID, 130 Ctrl-C"


def _beside(mode: str) -> str:
    return f"runs {', '.join(MODE_ARMS[mode])}"


def _summary(mode: Mode) -> str:
    """What the mode does; as a setting of its own it may bring other arms along."""
    return f"{mode.summary}; {_beside(mode.name)}" if mode.name in MODE_ARMS else mode.summary


def _section(title: str, rows: object) -> Iterator[str]:
    pairs = [(str(left), str(right)) for left, right in rows]  # type: ignore[attr-defined]
    width = min(max(len(left) for left, _ in pairs), 58)
    yield ""
    yield title
    for left, right in pairs:
        yield f"  {left:<{width}}  {right}"


def _keys(with_script: bool) -> Iterator[tuple[str, str]]:
    for key, value, metadata in settings(Config()):
        if with_script or metadata.get("effective") is not SCRIPTED:
            shown = "" if value is None else f" ({str(value).lower() if isinstance(value, bool) else value})"
            yield key + shown, metadata["help"]
