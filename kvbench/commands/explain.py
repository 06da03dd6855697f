"""`kvbench explain`: what each mode submits at every step, drawn for a prompt of one's own. Nothing is measured."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from kvbench.commands.arguments import Parser
from kvbench.errors import ConfigError

TEXT, NEW_TOKENS = "The cache keeps", 7
MOST_TOKENS = 1_000_000  # of a picture: more is no picture, and a typing error
SETTING = re.compile(r"[+~]{0,2}[A-Za-z_][\w.]*=")
MODES = ("nocache", "cached", "interrupted", "resumed")

DESCRIPTION = """Draws which positions of a text a model computes at every step, with a cache and without one, in the
terminal and with --svg as a picture. The prompt is split into tokens by the model's tokenizer (model=…, as for a run);
the model itself is neither loaded nor run."""


def main(argv: list[str]) -> int:
    """0 when it was drawn. Raises `BadInput` for settings or a model that cannot be used."""
    arguments = _parser().parse_intermixed_args(argv)
    text, settings = _text_and_settings(arguments.words)
    from kvbench.commands.result_files import say, write_file
    from kvbench.config.compose import load_config, sources
    from kvbench.language import speaking
    from kvbench.passes import Interruptions
    from kvbench.report.picture import panel, svg, terminal
    from kvbench.report.sentences import say as tell

    config = load_config(settings, sources())
    if not 0 < arguments.new_tokens <= MOST_TOKENS:
        raise ConfigError(f"--new-tokens {arguments.new_tokens}: must be between 1 and {MOST_TOKENS:,}")
    if config.model.weights in ("scripted", "python"):
        raise ConfigError(f"model.weights={config.model.weights}: explain knows the tokenizers of transformers models")
    from kvbench.models.loading import split

    tokens = split(config.model, text)
    if not tokens:
        raise ConfigError("the prompt has no token: give some text")
    interruptions = Interruptions((max(1, arguments.new_tokens // 2),)) if set(arguments.mode) & {*MODES[2:]} else None
    shown = " | ".join(token.strip() or repr(token) for token in tokens[:40])
    with speaking(config.language):
        panels = [panel(mode, len(tokens), arguments.new_tokens, interruptions) for mode in arguments.mode]
        say(f"{tell('picture.prompt', count=len(tokens), tokens=shown)}\n\n")
        say(f"{terminal(panels, tokens, _width())}\n")
        if arguments.svg is not None:
            write_file(arguments.svg, svg(panels, tokens, arguments.theme).encode())
            say(f"\n{arguments.svg}\n")
    return 0


def _parser() -> Parser:
    parser = Parser(prog="kvbench explain", description=DESCRIPTION)
    parser.add_argument(
        "words",
        nargs="*",
        metavar="TEXT | KEY=VALUE",
        help=f"a prompt (default: {TEXT!r}), and settings such as model=gpt2",
    )
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS, help="tokens to draw (default: %(default)s)")
    parser.add_argument(
        "--mode",
        type=_modes,
        default=("nocache", "cached"),
        help=f"modes to draw, of {', '.join(MODES)} (default: nocache,cached)",
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also write the picture as SVG")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="of the SVG (default: %(default)s)")
    return parser


def _modes(text: str) -> tuple[str, ...]:
    modes = tuple(text.split(","))
    for mode in modes:
        if mode not in MODES:
            raise argparse.ArgumentTypeError(f"{mode}: choose of {', '.join(MODES)}")
    return modes


def _text_and_settings(words: list[str]) -> tuple[str, list[str]]:
    """The prompt, the one word that is no KEY=VALUE, and the settings. Raises `ConfigError` for a second prompt."""
    settings = [word for word in words if SETTING.match(word)]
    texts = [word for word in words if word not in settings]
    if len(texts) > 1:
        raise ConfigError(f"{texts[1]}: the prompt is one word for the shell; put it in quotes")
    return (texts[0] if texts else TEXT), settings


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns
