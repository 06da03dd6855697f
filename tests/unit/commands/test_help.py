"""The help page: every key that a run may need, the scripted model's only for those who ask."""

from __future__ import annotations

from collections.abc import Callable

from kvbench.config.schema import Config
from kvbench.options import settings

Run = Callable[..., tuple[int, str, str]]


def keys_of(page: str) -> set[str]:
    lines = page.partition("keys (default)\n")[2].partition("\n\n")[0].splitlines()
    return {line.split()[0] for line in lines if line.startswith("  ")}


def test_the_keys_of_the_scripted_model_are_shown_to_who_asks_for_them(run_kvbench: Run) -> None:
    every = {key for key, _, _ in settings(Config())}
    usual, asked = (keys_of(run_kvbench(*arguments, "--help")[1]) for arguments in ((), ("model=scripted",)))
    assert every == asked
    assert {"model.prefill_s", "model.fail_with", "model.sensors"} <= every - usual
    assert {"model.id", "model.seed", "workload.new_tokens", "report"} <= usual


def test_the_page_tells_how_to_ask_for_them(run_kvbench: Run) -> None:
    assert "python -m kvbench model=scripted --help" in run_kvbench("--help")[1]
    assert "model=scripted --help" not in run_kvbench("model=scripted", "--help")[1]
