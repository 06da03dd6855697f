"""Shell completion: what a shell evaluates, and what it is told at a Tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from kvbench.commands.completion import matches, script

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("kvbench model=q", ["model=qwen3-0.6b"]),
        ("python -m kvbench model=q", ["model=qwen3-0.6b"]),
        ("/usr/bin/python3.12 -m kvbench -m mode=nocache,cached model=q", ["model=qwen3-0.6b"]),
        ("kvbench workload.new", ["workload.new_tokens="]),
        ("kvbench model.dtype=b", ["model.dtype=bfloat16"]),
        ("kvbench audit=", ["audit=false", "audit=true"]),
        ("kvbench hydra", []),
        ("kvbench [", []),
    ],
)
def test_a_word_is_completed(line: str, found: list[str]) -> None:
    assert found == matches(line)


def test_a_new_word_may_be_any_group_or_key() -> None:
    assert {"model=", "mode=", "cache=", "workload.", "results_dir="} <= set(matches("kvbench mode=cached "))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_for_each_shell(run_kvbench: Run, shell: str) -> None:
    for request in ("install", "uninstall"):
        code, out, err = run_kvbench("-sc", f"{request}={shell}")
        assert (0, "") == (code, err)
        assert "kvbench" in out


@pytest.mark.parametrize("arguments", [[], ["install=tcsh"], ["install"], ["install=bash", "mode=cached"]])
def test_any_other_request_is_refused_in_one_line(run_kvbench: Run, arguments: list[str]) -> None:
    code, out, err = run_kvbench("-sc", *arguments)
    assert (2, "", 1) == (code, out, err.count("\n"))
    assert "-sc install=bash" in err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_the_module_and_leaves_other_programs_alone() -> None:
    python = sys.executable
    program = f"""{script("install", "bash", ["kvbench", "python"])}
for COMP_LINE in "{python} -m kvbench model=q" "{python} -m http.server m"; do
    COMP_POINT=${{#COMP_LINE}}
    _kvbench_completion
    echo "<${{COMPREPLY[*]}}>"
done
{script("uninstall", "bash", ["kvbench", "python"])}
complete -p kvbench || echo gone
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=environment)
    assert "<model=qwen3-0.6b>\n<>\ngone\n" == ended.stdout
