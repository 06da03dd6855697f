"""The command line answers without torch, and `import kvbench` costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Runs one command line after another; after each it tells the exit code and the packages that this process has loaded.
PROBE = """
import json, os, sys
from kvbench.__main__ import main
for arguments in json.loads(sys.argv[1]):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    packages = sorted({name.partition(".")[0] for name in sys.modules} | {"scipy.stats"} & set(sys.modules))
    os.write(2, b"\\nLOADED " + json.dumps([code, packages]).encode() + b"\\n")
"""

# A main guard: the worker of a run is spawned and imports this program again.
GUARDED = "import multiprocessing\nif __name__ == '__main__':\n    " + PROBE.strip().replace("\n", "\n    ") + "\n"

# scipy.stats is 46 MiB and half a second: what is needed of it is in kvbench.statistics.
HEAVY = {"torch", "transformers", "accelerate", "tokenizers", "scipy.stats"}

WORKER_RUN = ("model=scripted", "launch=worker", "workload.new_tokens=4", "measure.warmup=0", "measure.blocks=8")


Loaded = tuple[int, set[str]]


def loaded_by_each(folder: Path, commands: list[list[str]]) -> list[Loaded]:
    """Exit code and top-level packages after each of several command lines in one process.

    What one has loaded stays for those behind it.
    """
    program = folder / "probe.py"
    program.write_text(GUARDED)
    command = [sys.executable, str(program), json.dumps(commands)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    told = [json.loads(line.removeprefix("LOADED ")) for line in ended.stderr.splitlines() if line.startswith("LOADED")]
    return [(code, set(packages)) for code, packages in told]


COMMANDS = [
    (0, ["--help"]),
    (0, ["--version"]),
    (0, ["show", "--help"]),
    (0, ["model=scripted", "--cfg", "job"]),
    (2, ["reprot"]),
    (2, ["workload.new_token=3"]),
    (2, ["-m", "mode=nosuch"]),
    (2, ["-m", "mode=cached,nosuch"]),
    (2, ["device=cuda:99"]),
    (2, ["model=path", "model.path=nowhere"]),
    (2, ["model=hub", "model.id=no-org/no-model"]),
    (2, ["model=python", "model.target=nowhere:make"]),
    (2, ["workload.prompts=nowhere.txt"]),
    (2, ["workload.prompt_tokens=5000"]),
    (2, ["show", "nowhere"]),
    (0, ["watch", "--help"]),
    (2, ["watch", "nowhere.py"]),
    (0, ["query", "--views"]),
    (2, ["push", "nowhere"]),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Loaded]:
    return loaded_by_each(tmp_path_factory.mktemp("answers"), [arguments for _, arguments in COMMANDS])


class TestTorch:
    @pytest.mark.parametrize("number", range(len(COMMANDS)), ids=lambda number: " ".join(COMMANDS[number][1]))
    def test_is_not_loaded_to_answer(self, answers: list[Loaded], number: int) -> None:
        code, packages = answers[number]
        assert (COMMANDS[number][0], set()) == (code, HEAVY & packages)

    def test_is_not_loaded_by_the_parent_of_a_run_or_a_sweep_nor_to_read_their_records_nor_by_a_scripted_worker(
        self, tmp_path: Path
    ) -> None:
        # A worker that loads it fails here, and the run with it.
        (tmp_path / "torch.py").write_text(
            "import sys\nif '--multiprocessing-fork' in sys.orig_argv:\n    raise ImportError('torch was loaded')\n"
        )
        commands = [
            ["-m", *WORKER_RUN, "mode=cached,both", "report=false"],
            ["show", "results"],
            ["export", "results", "--format", "parquet", "--output", "x"],
            ["report", "results"],
            [*WORKER_RUN, "report=true", "model.drift=0.02", "results_dir=drifting"],
        ]
        loaded = loaded_by_each(tmp_path, commands)
        assert [(0, set())] * len(commands) == [(code, HEAVY & packages) for code, packages in loaded]
        assert 1 == len(list((tmp_path / "drifting").rglob("report.html")))
        record = next((tmp_path / "drifting").rglob("run.json")).read_text()
        assert "drift" in record  # the trend was looked for, and found


def packages_of(statement: str) -> set[str]:
    """Top-level packages that a statement loads in a new process."""
    tell = "import sys, json; old = set(sys.modules); {}; print(json.dumps(sorted(set(sys.modules) - old)))"
    command = [sys.executable, "-c", tell.format(statement)]
    loaded = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    return {name.partition(".")[0] for name in loaded}


class TestImporting:
    @pytest.mark.parametrize("module", ["kvbench", "kvbench.__main__", "kvbench.errors"])
    def test_loads_nothing_but_the_standard_library(self, module: str) -> None:
        packages = packages_of(f"import {module}")
        assert "kvbench" in packages
        assert set() == packages - {"kvbench"} - sys.stdlib_module_names

    def test_gives_what_it_exports(self) -> None:
        program = (
            "import kvbench; names = kvbench.__all__; print(*names, all(callable(getattr(kvbench, n)) for n in names))"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert "measure rescore watch True\n" == ended.stdout
