"""Run folders that somebody could have sent, read by every command that reads them.

    python tests/benchmarks/fuzz_folders.py [--cases N] [--seed S] [--keep FILE] [--replay FILE]

A case changes the files of a whole run (a value, a line, a column, bytes), puts it beside a sound run, and calls one or
two commands on both. Each must end with an exit code of its own and whole lines on stderr, and must not lose the sound
run. Prints how the calls ended and every kind of fault with its first case; exits with 1 when there is one.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzzed_folders import cases, runner
from fuzzing import script

if __name__ == "__main__":
    sys.exit(script(__doc__ or "", cases(), runner))
