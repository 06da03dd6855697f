"""The Action's script on two commits, one of them slower, and on the same code twice.

    python tests/benchmarks/ab_demo.py [--pairs N] [--scripted | --sleeping]

Runs `tools/action/compare.sh` as `action.yml` does, in a throw-away clone of this repository: its commit as it is
against one whose cached steps sleep for 5 ms each, and against one that changes a comment. `--sleeping` and
`--scripted` take the toys of `gate_demo.py` instead, 10 % slower in real time or on a virtual clock.
Prints what goes into the job's summary; exits with 0 when the verdicts are right.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from gate_demo import SCRIPTED, SLEEPING, SLEPT_S, commit_all, git

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "action" / "compare.sh"
LOOP = Path("kvbench/decoding/loops.py")
SLEEPS = """

def _sleeping(self, *arguments, at_once=CachedLoop._next_logits, **named):
    import time

    time.sleep(0.005)
    return at_once(self, *arguments, **named)


CachedLoop._next_logits = _sleeping
"""
SHORT = ["stream.interval=0", "report=false", "measure.step_lane=false"]
TOY = ["--config-dir=conf", "model=toy", "mode=cached", "launch=inline", *SHORT]
TOY += ["workload.prompt_tokens=8", "workload.new_tokens=16"]
OWN = ["mode=cached", "threads=1", "check.agreement=none", "measure.energy_s=0", *SHORT]
OWN += ["workload.new_tokens=32", "measure.blocks=5", "measure.warmup=1"]
# The commit to judge, and the exit codes that are right: of equal code never SLOWER.
JUDGED = (("ten", {1}), ("again", {0, 5}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    toys = parser.add_mutually_exclusive_group()
    toys.add_argument("--scripted", action="store_true")
    toys.add_argument("--sleeping", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if options.scripted or options.sleeping:
            commit_all(root, SLEEPING if options.sleeping else SCRIPTED, SLEPT_S if options.sleeping else 0.001)
            repository, overrides = root / "repository", TOY
            git(repository, "tag", "base", "HEAD~2")
            git(repository, "tag", "ten", "HEAD~1")
            git(repository, "tag", "again", "HEAD~2")
        else:
            repository, overrides = root / "repository", OWN
            own_commits(root, repository)
        return max([judge(root, repository, new, right, overrides, options.pairs) for new, right in JUDGED])


def own_commits(root: Path, repository: Path) -> None:
    """A clone of this repository, with a commit that changes nothing and one that sleeps."""
    git(root, "clone", "--quiet", str(ROOT), str(repository))
    git(repository, "tag", "base")
    loop = repository / LOOP
    text = loop.read_text(encoding="utf-8")
    for name, added in (("again", "# nothing\n"), ("ten", SLEEPS)):
        loop.write_text(text + added, encoding="utf-8")
        git(repository, "-c", "user.name=demo", "-c", "user.email=demo@localhost", "commit", "--quiet", "-am", name)
        git(repository, "tag", name)


def judge(root: Path, repository: Path, new: str, right: set[int], overrides: list[str], pairs: int) -> bool:
    """Run the script as the Action does, and print its summary; whether its verdict is wrong."""
    summary = root / f"{new}.md"
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BASE": "base",
        "HEAD": new,
        "OVERRIDES": "\n".join(overrides),
        "PAIRS": str(pairs),
        "RESULTS": str(root / new),
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_OUTPUT": str(root / f"{new}.output"),
    }
    ended = subprocess.run([SCRIPT], cwd=repository, env={**os.environ, **variables}, check=False)
    print(summary.read_text(encoding="utf-8"))
    print((root / f"{new}.output").read_text(encoding="utf-8"))
    print(f"exit code {ended.returncode}: {'right' if ended.returncode in right else 'WRONG'}\n", flush=True)
    return ended.returncode not in right


if __name__ == "__main__":
    sys.exit(main())
