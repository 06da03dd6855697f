"""One program, one process: where a launcher started several, none of them measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvbench.errors import ConfigError
from kvbench.readiness import require_one_process

SEVERAL = [
    {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "none"},
    {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"},
    {"PMI_RANK": "0", "PMI_SIZE": "2"},
    {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8"},
]
ONE = [
    {},
    {"RANK": "0", "WORLD_SIZE": "1"},
    {"WORLD_SIZE": "2"},  # left over in a shell
    {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"},  # a batch script, in which nothing was started by srun
    {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"},
    {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "many"},
]


@pytest.mark.parametrize("environ", SEVERAL)
def test_several_are_refused_in_one_sentence(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"has started [248] processes .*: start one, without the launcher"):
        require_one_process(environ)


@pytest.mark.parametrize("environ", ONE)
def test_one_is_not(environ: dict[str, str]) -> None:
    require_one_process(environ)


def test_the_command_line_python_and_pytest_ask(
    run_kvbench: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import kvbench
    from kvbench.testing import run_experiment

    for name, value in SEVERAL[0].items():
        monkeypatch.setenv(name, value)
    code, out, err = run_kvbench("model=scripted")
    assert (2, "", 1) == (code, out, err.count("\n"))
    assert "WORLD_SIZE=2" in err
    with pytest.raises(ConfigError, match="WORLD_SIZE=2"):
        kvbench.measure(object())
    with pytest.raises(ConfigError, match="WORLD_SIZE=2"):
        run_experiment(["model=scripted"], 1, tmp_path)
