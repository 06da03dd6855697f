"""`kvbench rescore`: log-probabilities that a decode wrote to a file, judged against one pass over each text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kvbench.commands.arguments import Parser
from kvbench.errors import ConfigError, RecordError
from kvbench.scored_texts import FORMS, GivenText, read_texts, unfit

if TYPE_CHECKING:
    from kvbench.config.schema import Config
    from kvbench.records.rescoring import Rescore

MOST_LINES = 20  # of those that cannot be used, named one by one
DIFFERENT = 3  # exit code: measured, and not the same
DESCRIPTION = f"""Loads a model, makes one forward pass over each text of FILE, and judges whether its log-probabilities
are those in the file, against rounding measured on this machine. FILE has one JSON object per line:
{FORMS}, with natural log-probabilities, one for each token of the answer. Exit code 0: the same, up to rounding; 3:
different, or not judged; 2: a line, the model or the file cannot be used, and nothing was judged."""


def main(argv: list[str]) -> int:
    """0 where the log-probabilities are those of one pass, up to rounding, 3 where not. Raises `BadInput`."""
    options = _parser().parse_intermixed_args(argv)
    if not options.temperature > 0:
        raise ConfigError(f"--temperature {options.temperature:g}: give the number above 0 that logits were divided by")
    for file in (options.json, options.html):
        if file is not None and not file.absolute().parent.is_dir():
            raise RecordError(f"{file}: the folder {file.absolute().parent} does not exist")
    texts, wrong = read_texts(options.file)
    _require_good(options.file, wrong, len(texts) + len(wrong))
    if not texts:
        raise ConfigError(f"{options.file}: there is no text in it; write one JSON object per line, {FORMS}")
    from kvbench.config.compose import load_config, sources
    from kvbench.language import speaking

    config = load_config(options.settings, sources())
    if config.model.weights == "scripted":
        raise ConfigError(
            "model=scripted: a script scores no texts; name a model that computes, such as model=embedded"
        )
    with speaking(config.language):
        found = _judged(config, options.file, texts, options.temperature)
        _tell(found, options)
    return 0 if found.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING") else DIFFERENT


def _parser() -> Parser:
    parser = Parser(prog="kvbench rescore", description=DESCRIPTION)
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON lines of texts with log-probabilities")
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="the model and where it runs, such as model=gpt2 device=cuda"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="what the logits were divided by before the log-probabilities were taken (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict and all figures as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one small page with the chart")
    return parser


def _require_good(file: Path, wrong: list[str], lines: int) -> None:
    """Name each line that cannot be used on standard error. Raises `ConfigError` when there is one."""
    if not wrong:
        return
    for each in wrong[:MOST_LINES]:
        print(f"{file}, {each}", file=sys.stderr)  # noqa: T201 - one line each, for whoever mends the file
    if len(wrong) > MOST_LINES:
        print(f"{file}: and {len(wrong) - MOST_LINES:,} more", file=sys.stderr)  # noqa: T201 - the same
    raise ConfigError(f"{file}: {len(wrong):,} of {lines:,} lines cannot be used; nothing was judged")


def _judged(config: Config, file: Path, texts: tuple[GivenText, ...], temperature: float) -> Rescore:
    from kvbench.analysis.rescore_verdict import judge_rescore
    from kvbench.errors import KvbenchError
    from kvbench.readiness import ready_plan
    from kvbench.running.faults import fault_of

    plan = ready_plan(config)
    try:
        from kvbench.running.arm_rescore import rescore_texts
        from kvbench.running.torch_backend import load_backend

        model = load_backend(plan)
        facts = model.loaded.facts
        _require_good(file, unfit(texts, facts.vocab_size, facts.max_context), len(texts))
        return judge_rescore(rescore_texts(model, texts, config.model.quantization, temperature=temperature))
    except KvbenchError:
        raise
    except Exception as error:
        raise fault_of(error, "run it again with fewer lines").error() from error


def _tell(found: Rescore, options: argparse.Namespace) -> None:
    from kvbench.commands.result_files import say, write_file
    from kvbench.report.page.rescore_page import page
    from kvbench.report.rescored import rescore_sentence
    from kvbench.report.sentences import own_words
    from kvbench.report.sentences import say as tell

    say(f"{rescore_sentence(found, str(options.file))}\n\n")
    if found.error is not None:
        say(f"{tell('rescore.rests-on', detail=own_words(found.detail))}\n")
    if options.json is not None:
        write_file(options.json, (found.model_dump_json(indent=1) + "\n").encode())
    if options.html is not None:
        write_file(options.html, page(found, str(options.file)).encode())
