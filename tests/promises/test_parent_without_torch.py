"""The parent of a real model's worker never imports torch: not by itself, and not by what it is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from kvbench.__main__ import main
if __name__ == "__main__":
    code = main(sys.argv[1:])
    print(code, sorted({"torch", "transformers"} & set(sys.modules)))
"""


def test_a_run_of_the_embedded_model_leaves_torch_to_the_worker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    arguments = ["measure.blocks=5", "measure.warmup=0", "workload.new_tokens=3", "stream.interval=0", "threads=1"]
    done = subprocess.run(
        [sys.executable, str(program), *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "0 []" == done.stdout.splitlines()[-1]
