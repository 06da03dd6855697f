"""Command lines that are mistyped, extreme or hostile, called with the scripted model.

    python tests/benchmarks/fuzz_commands.py [--cases N] [--seed S] [--keep FILE] [--replay FILE]

A case is up to three words: keys with values near their range, any key with any text, groups, options of Hydra, sweeps.
Each call must end with an exit code of its own and whole lines on stderr; a run that was refused leaves nothing, one
that was measured leaves its record, and none a traceback. Prints how the calls ended and every kind of fault with its
first case; exits with 1 when there is one.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzzed_commands import cases, runner
from fuzzing import script

if __name__ == "__main__":
    sys.exit(script(__doc__ or "", cases(), runner))
