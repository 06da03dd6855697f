"""The gate on commits of a toy model: 10 % slower, 5 % slower (found with --relevance=0.02), and the same again.

    python tests/benchmarks/gate_demo.py [--processes N] [--scripted | --sleeping]

Makes a throw-away git repository, checks out each commit in a worktree of its own, measures all of them in turns, a
fresh process each time, and runs `kvbench compare`. The toy decodes with torch on this machine, and its slower commits
spend 10 % and 5 % of each forward pass again before they return; `--sleeping` has a toy that sleeps through its steps,
in real time that a busy machine hardly disturbs; `--scripted` has a virtual clock.
Exits with 0 when the verdicts are right.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import kvbench.commands.sweep  # noqa: F401 - before the processes are forked
from kvbench.__main__ import main as kvbench_main

TOY = """
from functools import wraps
from time import perf_counter

from transformers import LlamaConfig, LlamaForCausalLM

SPENT_AGAIN = {share}


class Toy(LlamaForCausalLM):
    @wraps(LlamaForCausalLM.forward)  # its signature tells that there is a cache
    def forward(self, *args, **options):
        began = perf_counter()
        output = super().forward(*args, **options)
        until = perf_counter() + SPENT_AGAIN * (perf_counter() - began)
        while perf_counter() < until:
            pass
        return output


def build():
    return Toy(LlamaConfig(vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=4,
                           num_attention_heads=4, num_key_value_heads=2)).eval()
"""
MEASURE = """
import sys
from pathlib import Path

import torch

import kvbench
from kvbench.models.tokenizers import byte_tokenizer
from kvbench.records.store import RunFolder
from toy import build

torch.set_num_threads(1)
record = kvbench.measure(build(), byte_tokenizer(512), "The cache keeps the keys and values.", modes=["cached"],
                         new_tokens=64, blocks=16, warmup=2, step_lane=False)
RunFolder(Path(sys.argv[1]), "toy", sys.argv[2]).write_record(record)
sys.exit(not record.valid)
"""
SCRIPTED = "name: toy\nweights: scripted\ncached_step_s: {step_s}\nnoise: 0.05\n"
SLEEPING = SCRIPTED.replace("noise: 0.05", "virtual_time: false")
SLEPT_S = 0.005  # long beside what the system adds to a sleep
COMMITS = {"first": 0.0, "ten": 0.10, "five": 0.05}  # share of a step that each takes more than the first
SIDES = {"base": "first", "again": "first", "ten": "ten", "five": "five"}  # folder of runs: commit
# NEW, options, the exit codes that are right: SAME or AMBIGUOUS of equal code, never SLOWER
COMPARISONS = (("ten", (), {1}), ("again", (), {0, 5}), ("five", ("--relevance=0.02",), {1}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    toys = parser.add_mutually_exclusive_group()
    toys.add_argument("--scripted", action="store_true")
    toys.add_argument("--sleeping", action="store_true")
    options = parser.parse_args()
    scripted = options.scripted or options.sleeping
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        commit_all(root, SLEEPING if options.sleeping else SCRIPTED, SLEPT_S if options.sleeping else 0.001)
        dice = random.Random(0)
        for number in range(options.processes):
            for side in dice.sample(list(SIDES), len(SIDES)):
                _measure(root, side, number, scripted)
        return max([_compare(root, *comparison) for comparison in COMPARISONS])


def commit_all(root: Path, script: str, step_s: float) -> None:
    """A repository with a commit for each version of the toy, each checked out in a folder of its name."""
    repository = root / "repository"
    git(root, "init", "--quiet", "--initial-branch=main", str(repository))
    (repository / "conf" / "model").mkdir(parents=True)
    for name, share in COMMITS.items():
        (repository / "toy.py").write_text(TOY.format(share=share))
        (repository / "measure.py").write_text(MEASURE)
        (repository / "conf" / "model" / "toy.yaml").write_text(script.format(step_s=step_s * (1 + share)))
        git(repository, "add", ".")
        git(repository, "-c", "user.name=toy", "-c", "user.email=toy@localhost", "commit", "--quiet", "-m", name)
        git(repository, "worktree", "add", "--quiet", "--detach", str(root / name), "HEAD")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def _measure(root: Path, side: str, number: int, scripted: bool) -> None:
    """One process of one side."""
    checkout, runs = root / SIDES[side], root / "runs" / side
    if not scripted:
        subprocess.run([sys.executable, "measure.py", str(runs), str(number)], cwd=checkout, check=True)
        return
    seed = 100 * list(SIDES).index(side) + number
    arguments = ["--config-dir=conf", "model=toy", "mode=cached", "launch=inline", f"model.seed={seed}"]
    arguments += [f"results_dir={runs}", "report=false", "stream.interval=0"]
    arguments += ["workload.prompt_tokens=8", "workload.new_tokens=16", "measure.step_lane=false"]
    # Forked: a process of its own that need not import everything again.
    process = multiprocessing.get_context("fork").Process(target=_kvbench, args=(checkout, arguments))
    process.start()
    process.join()
    assert process.exitcode == 0, f"the run ended with {process.exitcode}"


def _kvbench(folder: Path, arguments: list[str]) -> None:
    os.chdir(folder)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        code = kvbench_main(arguments)
    sys.exit(code)


def _compare(root: Path, new: str, options: tuple[str, ...], right: set[int]) -> bool:
    """Print what the gate says; whether it is wrong."""
    command = [sys.executable, "-m", "kvbench", "compare", "base", new, *options]
    print(f"$ kvbench {' '.join(command[3:])}", flush=True)
    code = subprocess.run(command, cwd=root / "runs").returncode
    print(f"exit code {code}: {'right' if code in right else 'WRONG'}\n", flush=True)
    return code not in right


if __name__ == "__main__":
    sys.exit(main())
