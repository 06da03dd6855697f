"""What tests share: tiny models with weights wide enough that a bug in a cache changes the output."""

from __future__ import annotations

import gc
import json
import logging
import os

# Before transformers is imported: a test that asks the hub by mistake fails at once instead of after retries.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tiny models gain nothing from threads, and threads that spin at barriers lose minutes on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Whoever works on it may have set their language.
os.environ.pop("KVBENCH_LANG", None)

from collections.abc import Callable, Generator, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

# torchao, where it is installed, has torch complain on standard error while transformers is imported.
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)

TINY = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
YUAN = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 2,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "eod_token": 2,
    "sep_token": 3,
}
GPT2 = {
    "vocab_size": 97,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Importing all that is tested makes no garbage, and looking for it takes a sixth of this time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that do not exist yet. Those of `mktemp` take longer the more there are, and every test wants one."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def no_ceilings_but_those_of_the_test(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer measured of this machine must not show in what a test expects."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(next(caches)))


@pytest.fixture(scope="session", autouse=True)
def files_that_do_not_change_are_composed_once() -> Iterator[None]:
    """A third of the time of all tests went into composing the same files again."""
    from compositions import keep_compositions

    with pytest.MonkeyPatch.context() as patch:
        keep_compositions(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def runs_of_other_processes_are_not_waited_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests beside each other are no sweeps beside each other: each process of them has leases of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KVBENCH_LEASES", str(tmp_path_factory.mktemp("leases")))
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[Callable[[int], None]]:
    """Hands out what does wait, for the tests that are about it."""
    waiting = os.fsync
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: os.fstat(descriptor) and None)
        yield waiting


@pytest.fixture(autouse=True)
def but_what_must_be_durable(
    request: pytest.FixtureRequest, nothing_waits_for_the_disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test about what survives a loss of power carries the marker `durable`."""
    if request.node.get_closest_marker("durable"):
        monkeypatch.setattr(os, "fsync", nothing_waits_for_the_disk)


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Any]:
    """Starts command lines as processes that have imported kvbench already: `preloaded.start("model=scripted", …)`."""
    from preloaded import Preloaded

    with Preloaded() as started:
        yield started


@pytest.fixture(scope="module", autouse=True)
def what_stays_is_not_collected() -> None:
    """A run collects garbage before each of its passes, which takes a third of a second with all that torch keeps."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def records_meet_their_schema(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test writes: each record that can be read meets the exported JSON Schema, and its sentences hold."""
    folder: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    for path in folder.rglob("run.json") if folder is not None else ():
        _require_schema(path)


@pytest.fixture(scope="session")
def record_schema_validator() -> Any:
    """jsonschema's validator of the exported schema, which is looked through once."""
    return _schema()


@cache
def _schema() -> Any:
    from jsonschema import Draft202012Validator

    from kvbench.records.run_record import record_schema

    return Draft202012Validator(record_schema())


def _require_schema(path: Path) -> None:
    from pointers import unresolved_evidence

    from kvbench.errors import RecordError
    from kvbench.records.store import read_record

    try:
        record = read_record(path)
    except RecordError:
        return  # broken on purpose
    text = path.read_text(encoding="utf-8")
    if text in _MET:
        return  # a copy of what another test has measured
    _schema().validate(json.loads(text))
    assert [] == unresolved_evidence(record.model_dump(mode="json"))
    # A run that leaves something behind in its process slows or changes the next one.
    assert [] == [warning.detail for warning in record.warnings if warning.code == "worker_state"]
    _MET.add(text)


_MET: set[str] = set()


@pytest.fixture
def tiny_model() -> Callable[..., Any]:
    """Builds a tiny float32 model of an architecture: `tiny_model("llama", sliding_window=16)`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    import kvbench.models  # noqa: F401 - registers Yuan

    def build(architecture: str, *, seed: int = 7, **changes: Any) -> Any:
        shape = {**{"gpt2": GPT2, "yuan": YUAN}.get(architecture, TINY), **changes}
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **shape))
        width = 1.5 / 32**0.5  # the default 0.02 hides bugs: see a token twice and nothing changes
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=width)
        return model.eval()

    return build


@pytest.fixture
def run_kvbench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs the command line in this process, in a folder of its own; returns exit code, output and errors."""
    from kvbench.__main__ import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def scripted(run_kvbench: Callable[..., Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Measures the scripted model from the command line on: `scripted("mode=cached", code=0)` gives the record."""
    from runs import SCRIPTED, the_record

    def run(*overrides: str, code: int = 0) -> dict[str, Any]:
        ended, out, err = run_kvbench(*SCRIPTED, *overrides)
        assert code == ended, out + err
        return the_record(tmp_path / "results")

    return run
