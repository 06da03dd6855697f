"""Command lines as people mistype them and as nobody would: overrides of every key, sweeps, options and grammar."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing import NUMBERS, TEXTS, Counts, Ran, run
from hypothesis import strategies as st

from kvbench.config.conf_files import groups, ready_files
from kvbench.config.schema import Config
from kvbench.options import settings

# Keys that would leave this process, this folder or a few seconds: they have their own values below.
OWN = (
    "launch",
    "report",
    "results_dir",
    "model.weights",
    "device",
    "measure.timeout_s",
    "model.virtual_time",
    "threads",
)
LONG = (
    "workload.prompt_tokens",
    "workload.new_tokens",
    "workload.batch_size",
    "measure.blocks",
    "measure.max_blocks",
    "measure.warmup",
)
SAFE = ("launch=inline", "report=false", "results_dir=out")
SCRIPTED = ("model=scripted", *SAFE)
CODES = (0, 1, 2, 3)
KEYS = {key: metadata for key, _, metadata in settings(Config()) if key not in OWN}
GRAMMAR = (
    *("", "[", "]", "{", "}", "[1,[2,{a: 3}]]", "{a: 1}", "null", "'", '"', "\\", "${x}", "${mode}", "${oc.env:HOME}"),
    *("${oc.env:NOSUCH}", "${name}", "1,2", "range(0,3)", "range(0,9,0)", "range(0,1e400)", "interval(0,1)", "glob(*)"),
    *(
        "choice(1,2)",
        "shuffle(1,2)",
        "sort(2,1)",
        "int(x)",
        "str(1)",
        "1e400",
        "-1",
        "é",
        "\t",
        "[" * 300,
        "a" * 5000,
        "9" * 5000,
    ),
    *("../x", "/dev/zero", "..", "?", "a b", "a=b", "true", "@", "~", "cast(1)", "!!python/object:os.system"),
)


def _texts(items: Any) -> list[str]:
    return [text for text in map(str, items) if "\0" not in text and len(text) < 10_000]


def words() -> st.SearchStrategy[str]:
    """One word of a command line."""
    key = st.sampled_from(
        (*KEYS, *groups(), "arms", "arms.0.mode", "hydra.searchpath", "hydra.mode", "nosuch", "model.nosuch")
    )
    good = st.sampled_from(sorted(KEYS)).flatmap(_fitting)
    wild = st.tuples(
        st.sampled_from(("", "", "", "+", "++", "~")),
        key,
        st.sampled_from((*GRAMMAR, *_texts(NUMBERS), *_texts(TEXTS))),
    ).map(lambda parts: f"{parts[0]}{parts[1]}={parts[2]}")
    option = st.sampled_from(
        ("-m", "--cfg", "job", "--config-dir", "--config-name", "x", "--resolve", "-sc", "--nosuch", "-x", "~mode")
    )
    group = st.sampled_from([each for each in groups() if each != "model"]).flatmap(
        lambda name: st.sampled_from([f"{name}={each}" for each in ready_files(name)] or ["mode=cached"])
    )
    return st.one_of(good, good, wild, option, group)


def _fitting(key: str) -> st.SearchStrategy[str]:
    """A key with a value near its range."""
    metadata = KEYS[key]
    choices = [str(each).lower() if isinstance(each, bool) else str(each) for each in metadata["choices"] or ()]
    edges = [metadata[edge] for edge in ("minimum", "maximum", "above") if metadata[edge] is not None]
    edges = [edge for edge in edges if key not in LONG or edge < 100]
    near = [value for edge in edges for value in (edge, edge + 1, edge - 1)]
    return st.sampled_from([*choices, *map(str, near), "null", "1", "2", "0.5", "3", "true", "[1]", "x"]).map(
        lambda value: f"{key}={value}"
    )


def cases() -> st.SearchStrategy[Any]:
    """Up to three words after those that keep a run in this process and short."""
    start = st.sampled_from(("scripted", "scripted", "scripted", "any"))
    return st.tuples(start, st.lists(words(), min_size=1, max_size=3)).map(list)


def runner(folder: Path) -> Callable[[Any, Counts], None]:
    """Calls each case in `folder`, where nothing but its results may appear."""

    def one(case: Any, counts: Counts) -> None:
        start, given = case
        if any(
            word.partition("=")[0].lstrip("+~") in ("model", "model.id", "model.weights", *LONG[3:]) for word in given
        ):
            start = "any"  # another model may be anything, and so many blocks take as long as they take
        if start == "any":  # composed and checked, never measured: it could be any model
            counts.count("--cfg job", run([*SAFE, "--cfg", "job", *given], CODES), case)
            return
        argv = (
            [*SCRIPTED, *given]
            if "workload.new_tokens" in "".join(given)
            else [*SCRIPTED, "workload.new_tokens=3", *given]
        )
        counts.count("-m" if "-m" in given else "run", _held(run(argv, CODES), folder), case)
        shutil.rmtree(folder / "out", ignore_errors=True)

    return one


def _held(ran: Ran, folder: Path) -> Ran:
    """A run that measured has a record; one that was refused has left nothing; and nobody writes anywhere else."""
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in ("out", "kvbench"))
    if strangers:
        return Ran(ran.code, ran.out, ran.err, f"left {strangers[0]} behind")
    records = list((folder / "out").rglob("run.json")) if (folder / "out").is_dir() else []
    if ran.fault is None and ran.code == 2 and any((folder / "out").rglob("blocks.jsonl")):
        return Ran(ran.code, ran.out, ran.err, "refused, with blocks left behind")
    if ran.fault is None and ran.code in (1, 3) and not records and "# refused" not in ran.out:
        return Ran(ran.code, ran.out, ran.err, "measured, without a record")
    if ran.code == 1 and any("traceback in stdout.log" in path.read_text() for path in records):
        return Ran(ran.code, ran.out, ran.err, "a record that tells of a traceback")
    return ran
