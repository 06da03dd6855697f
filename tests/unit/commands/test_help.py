"""The help pages: a first one that fits a screen or two, and one for each key, group and choice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvbench.capabilities import ATTENTIONS, CACHES, ENGINES, MODES
from kvbench.commands import SUBCOMMANDS
from kvbench.config.schema import Config
from kvbench.options import settings

Run = Callable[..., tuple[int, str, str]]

EVERY = {key for key, _, _ in settings(Config())}


def keys_of(page: str) -> set[str]:
    lines = page.partition("keys (default)\n")[2].splitlines()
    return {line.split()[0] for line in lines if line.startswith("  ") and line.strip()} & EVERY


def test_the_keys_of_the_scripted_model_are_shown_to_who_asks_for_them(run_kvbench: Run) -> None:
    usual, asked = (keys_of(run_kvbench(*words)[1]) for words in (("help", "all"), ("model=scripted", "--help")))
    assert asked == EVERY
    assert {"model.prefill_s", "model.fail_with", "model.sensors"} <= EVERY - usual
    assert {"model.id", "model.seed", "workload.new_tokens", "report"} <= usual


def test_the_page_of_all_keys_tells_how_to_ask_for_them(run_kvbench: Run) -> None:
    assert "python -m kvbench model=scripted --help" in " ".join(run_kvbench("help", "all")[1].split())
    assert "model=scripted --help" not in run_kvbench("model=scripted", "--help")[1]


def test_the_first_page_fits_two_screens_of_eighty_columns_and_names_everything(
    run_kvbench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = run_kvbench("--help")[1]
    assert len(page.splitlines()) <= 70
    assert max(map(len, page.splitlines())) <= 80
    named = page.split()
    assert {*SUBCOMMANDS, *MODES, *ENGINES, *ATTENTIONS, *(name for name in CACHES if name != "none")} <= {*named}
    usual = {key for key, _, metadata in settings(Config()) if not key.startswith("model.") and metadata["help"]}
    assert {key.rpartition(".")[2] for key in usual} <= {*named}
    assert page == run_kvbench("help")[1]


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("measure.blocks", "measure.blocks (8) measured blocks under stopping=fixed"),
        ("measure.blocks", "(at least 1)"),
        ("workload", "workload.new_tokens (64) tokens that each sequence gets"),
        ("cache", "static allocated once at its full length"),
        ("habit", "autograd no torch.no_grad"),
        ("model.quantization", "nf4 bitsandbytes 4-bit NormalFloat"),
        ("experiment", "scaling How a step grows with the context"),
        ("compare", "python -m kvbench compare --help"),
    ],
)
@pytest.mark.parametrize("asked", ["help", "--help"])
def test_one_topic_is_explained(run_kvbench: Run, asked: str, topic: str, said: str) -> None:
    code, out, _ = run_kvbench(asked, topic)
    assert code == 0
    assert said in " ".join(out.split())


def test_a_topic_that_there_is_not_names_what_may_be_meant(run_kvbench: Run) -> None:
    code, _, err = run_kvbench("help", "blokcs")
    assert (2, "kvbench: blokcs: no such key; did you mean measure.blocks?\n") == (code, err)
