"""Run folders as somebody could have sent them: a whole run with changes in its files, beside a run that is sound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import yaml
from fuzzing import Counts, Ran, run, values
from hypothesis import strategies as st

from kvbench.__main__ import main
from kvbench.records.store import BLOCKS, CONFIG, PROMPTS, RECORD, STEPS

SHORT = ("model=scripted", "launch=inline", "report=false", "stream.interval=0", "workload.new_tokens=4")
KINDS = {
    "both": ("workload.prompt_tokens=8",),
    "audited": ("workload.prompt_tokens=8", "audit=true", "measure.blocks=5", "model.noise=0.05"),
    "one arm": ("workload.prompt_tokens=8", "mode=cached"),
    "growth": ("scaling.lengths=[4,8,16,32]", "scaling.decode_tokens=8", "measure.blocks=5"),
    "frontier": (
        "frontier.axes=[context]",
        "workload.prompt_tokens=8",
        "model.memory_bytes=100000",
        "frontier.max_context=64",
    ),
    "sensors": ("workload.prompt_tokens=8", "model.sensors=throttled_once", "measure.blocks=5"),
    "refused": ("workload.prompt_tokens=8", "model.fail_at_step=3"),
}
FILES = (RECORD, BLOCKS, PROMPTS, CONFIG, STEPS)
FORMATS = ("csv", "json", "parquet", "md", "pytest-benchmark")
CALLS = (
    "show",
    "show --json",
    "show --shapes",
    "report",
    "compare",
    "--config-path",
    *(f"export {each}" for each in FORMATS),
)


def cases() -> st.SearchStrategy[Any]:
    """A kind of run, up to three changes (file, how, where, value), and two commands to read it with."""
    where = st.lists(st.integers(0, 40), min_size=1, max_size=6)
    ways = st.sampled_from(("set", "set", "set", "delete", "bytes", "cut", "twice"))
    file = st.sampled_from((RECORD, RECORD, RECORD, *FILES))
    change = st.tuples(file, ways, where, values()).map(list)
    return st.tuples(
        st.sampled_from(sorted(KINDS)),
        st.lists(change, min_size=1, max_size=3),
        st.lists(st.sampled_from(CALLS), min_size=1, max_size=2),
    ).map(list)


def runner(folder: Path) -> Callable[[Any, Counts], None]:
    """Measures one run of each kind in `folder`; what comes back changes a copy of one and reads it."""
    for kind, overrides in KINDS.items():
        assert main([*SHORT, *overrides, f"name={kind}", f"results_dir={folder / 'whole'}"]) in (0, 1, 3), kind
    whole = {kind: next((folder / "whole" / kind).iterdir()) for kind in KINDS}

    def one(case: Any, counts: Counts) -> None:
        kind, changes, calls = case
        place = folder / "read"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole[kind], place / "sent")
        shutil.copytree(whole["both"], place / "good")
        for file, how, where, value in changes:
            _change(place / "sent" / file, how, where, value)
        for call in calls:
            counts.count(call, _read(call, place), case)

    return one


def _read(call: str, place: Path) -> Ran:
    sent, good = str(place / "sent"), str(place / "good")
    if call == "--config-path":
        return run(["--config-path", sent, "--cfg", "job"], (0, 2))
    if call == "compare":
        return run(["compare", good, str(place)], (0, 1, 2, 4, 5))
    if call == "report":
        ran = run(["report", str(place), "--output", str(place / "page.html")], (0, 2))
        page = place / "page.html"
        if ran.fault is None and not (
            page.exists() and json.loads((place / "good" / RECORD).read_text())["run_id"] in page.read_text()
        ):
            return Ran(ran.code, ran.out, ran.err, "the sound run is not on the page")
        return ran
    if call.startswith("export"):
        return run(
            ["export", str(place), "--format", call.partition(" ")[2], "--output", str(place / "exported")], (0, 2)
        )
    words = call.split()
    if "--shapes" in words:
        return run([words[0], sent, *words[1:]], (0, 2))
    ran = run([words[0], str(place), *words[1:]], (0, 2))
    if ran.fault is None and "--json" in words:
        ids = {each["run_id"] for each in json.loads(ran.out)}
        if json.loads((place / "good" / RECORD).read_text())["run_id"] not in ids:
            return Ran(ran.code, ran.out, ran.err, "the sound run is not shown")
    return ran


def _change(path: Path, how: str, where: list[int], value: Any) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    if how == "bytes":
        at = sum(number * 41**power for power, number in enumerate(where)) % max(len(content), 1)
        path.write_bytes(content[:at] + str(value).encode(errors="surrogatepass")[:50] + content[at + where[0] % 9 :])
    elif how == "cut":
        path.write_bytes(
            content[: sum(number * 41**power for power, number in enumerate(where)) % max(len(content), 1)]
        )
    elif path.name == STEPS:
        _change_table(path, how, where, value)
    else:
        try:
            _change_data(path, how, where, value)
        except (ValueError, yaml.YAMLError, RecursionError):  # changed before into what is no data any more
            path.write_bytes(content + str(value).encode(errors="replace"))


def _change_data(path: Path, how: str, where: list[int], value: Any) -> None:
    if path.name == CONFIG:
        data = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(_changed(data, how, where, value)), errors="surrogatepass")
    elif path.name == RECORD:
        data = json.loads(path.read_text())
        path.write_text(json.dumps(_changed(data, how, where, value), indent=1))
    else:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in _changed(lines, how, where, value)))


def _changed(data: Any, how: str, where: list[int], value: Any) -> Any:
    """The data with one of its parts set to a value, without it, or with it twice."""
    data = deepcopy(data)
    at = data
    for depth, number in enumerate(where):
        if not isinstance(at, (dict, list)) or not at:
            break
        key = sorted(at)[number % len(at)] if isinstance(at, dict) else number % len(at)
        if depth == len(where) - 1 or not isinstance(at[key], (dict, list)) or not at[key]:
            if how == "delete":
                del at[key]
            elif how == "twice" and isinstance(at, list):
                at.append(at[key])
            elif how == "twice":
                at["another"] = at[key]
            else:
                at[key] = value
            break
        at = at[key]
    return data


def _change_table(path: Path, how: str, where: list[int], value: Any) -> None:
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError):
        return
    if not table.num_columns:
        return
    number = where[0] % table.num_columns
    name = table.column_names[number]
    if how == "delete":
        table = table.drop_columns([name])
    elif how == "twice":
        table = pyarrow.concat_tables([table, table])
    else:
        column = table[name].to_pylist()
        if column:
            column[where[-1] % len(column)] = value
        try:
            made = pyarrow.array(column)
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError, TypeError):
            made = pyarrow.array([str(value).encode(errors="replace").decode()] * table.num_rows)
        table = table.set_column(number, name, made)
    try:
        pyarrow.parquet.write_table(table, path)
    except (pyarrow.ArrowException, OSError):
        path.write_bytes(b"PAR1")
