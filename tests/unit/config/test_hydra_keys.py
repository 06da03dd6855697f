"""A setting of Hydra's own is obeyed or refused by name, wherever it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvbench.config.compose import load_config, sources, sweep_points
from kvbench.errors import Mistyped

WRITTEN = [
    ("hydra.sweep.dir=x", "use results_dir=FOLDER"),
    ("hydra.run.dir=x", "use results_dir=FOLDER"),
    ("hydra.output_subdir=null", "use results_dir=FOLDER"),
    ("hydra.job.chdir=true", "stays in the folder"),
    ("hydra.job.name=x", "use name=NAME"),
    ("hydra.verbose=true", "stdout.log"),
    ("hydra/job_logging=disabled", "stdout.log"),
    ("hydra/launcher=joblib", "a launcher runs the points of a sweep"),
    ("hydra.launcher.n_jobs=2", "a launcher runs the points of a sweep"),
    ("hydra.mode=MULTIRUN", "-m asks for a sweep"),
    ("hydra.sweeper.params={mode: cached}", "with -m"),
    ("hydra={sweeper: {params: {mode: cached}}}", "with -m"),
    ("+hydra.nosuch=1", "no effect"),
    ("~hydra/launcher", "a launcher runs the points of a sweep"),
    ("workload.new_tokens=interval(2,4)", "an interval has no list of values"),
]
FILES = [
    (
        "defaults: [{override /hydra/launcher: joblib}]",
        "override hydra/launcher: joblib",
        "a launcher runs the points of a sweep",
    ),
    ("defaults: [{override /hydra/job_logging: none}]", "override hydra/job_logging: none", "stdout.log"),
    ("hydra: {run: {dir: here}}", "hydra.run.dir=here", "use results_dir=FOLDER"),
    ("hydra: {job: {chdir: true}}", "hydra.job.chdir=True", "stays in the folder"),
    ("hydra: {mode: MULTIRUN}", "hydra.mode=MULTIRUN", "-m asks for a sweep"),
    ("hydra: {sweeper: {params: {mode: 'a,b'}}}", "hydra.sweeper.params.mode=a,b", "with -m"),
]


def experiment(folder: Path, text: str) -> Path:
    """A folder of configuration files with the experiment `mine`."""
    (folder / "experiment").mkdir()
    (folder / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\nworkload: {{new_tokens: 4}}\n")
    return folder


@pytest.mark.parametrize(("override", "remedy"), WRITTEN)
def test_on_the_command_line(override: str, remedy: str) -> None:
    with pytest.raises(Mistyped) as single:
        load_config([override], sources())
    with pytest.raises(Mistyped) as sweep:
        sweep_points(["mode=cached,nocache", override], sources())
    assert str(single.value) == str(sweep.value)
    assert str(single.value).startswith(f"{override}: ")
    assert remedy in str(single.value)


@pytest.mark.parametrize(("text", "setting", "remedy"), FILES)
def test_in_a_file_of_the_user_s(tmp_path: Path, text: str, setting: str, remedy: str) -> None:
    where = sources(config_dir=str(experiment(tmp_path, text)))
    with pytest.raises(Mistyped) as refused:
        load_config(["experiment=mine"], where)
    assert str(refused.value).startswith(f"{setting}, set in a configuration file: ")
    assert remedy in str(refused.value)


def test_a_search_path_is_obeyed(tmp_path: Path) -> None:
    folder = experiment(tmp_path, "mode: cached")
    config = load_config([f"hydra.searchpath=[file://{folder}]", "experiment=mine"], sources())
    assert 4 == config.workload.new_tokens
    with pytest.raises(Mistyped, match="--config-dir"):
        load_config([f"hydra.searchpath=[file://{folder}]"], sources(config_dir=str(folder)))
