"""How fast kvbench answers when it measures nothing: seconds of whole commands, the median of several runs.

python tests/benchmarks/startup.py [--runs N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = (
    ("--help",),
    ("mode=bogus",),
    ("workload.new_tokens=-1",),
    ("report", "--help"),
    ("show", "--help"),
    ("export", "--help"),
    ("doctor", "--help"),
    ("show", "no/such/folder"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    print("seconds   exit  command")
    for command in COMMANDS:
        samples, code = [], 0
        for _ in range(runs):
            started = time.perf_counter()
            code = subprocess.run([sys.executable, "-m", "kvbench", *command], capture_output=True).returncode
            samples.append(time.perf_counter() - started)
        print(f"{statistics.median(samples):7.3f}   {code:4d}  python -m kvbench {' '.join(command)}")


if __name__ == "__main__":
    main()
