"""`compare --ab` measures two commands in turns; only what ended well counts, and everything else fails closed."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from kvbench.__main__ import main
from kvbench.records.store import RECORD, find_runs
from kvbench.running import alternating, checkouts
from kvbench.running.alternating import Side, alternate

Run = Callable[..., tuple[int, str, str]]

SCRIPT = (
    *("model=scripted", "mode=cached", "model.noise=0.01", "workload.prompt_tokens=5", "workload.new_tokens=6"),
    *("stream.interval=0", "measure.warmup=0", "launch=inline", "report=false"),
)
# A program that "measures": it takes the next of the runs that lie ready in POOL, and says in which order it was asked.
TAKES = 'next=$(ls {pool} | head -n 1); echo {pool} >> order; mv {pool}/"$next" {{results}}/run'


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs each, as if of five processes: `equal`, `again` and, with steps that take 10 % longer, `slow`."""
    folder = tmp_path_factory.mktemp("pools")
    for place, (pool, step_s) in enumerate({"equal": 0.001, "again": 0.001, "slow": 0.0011}.items(), start=1):
        results = folder / "made" / pool
        with redirect_stdout(StringIO()):
            main([*SCRIPT, f"results_dir={results}", f"model.seed={place}", f"model.cached_step_s={step_s}"])
        (run,) = find_runs([results]).runs
        for number in range(5):
            copied = shutil.copytree(run.folder, folder / pool / str(number))
            record = json.loads((copied / RECORD).read_text())
            record["environment"]["worker"]["pid"] = place * 1000 + number
            (copied / RECORD).write_text(json.dumps(record))
    return folder


@pytest.fixture
def taking(pools: Path, tmp_path: Path) -> Callable[[str], str]:
    """A command that hands out copies of the runs of a pool."""

    def command(pool: str) -> str:
        shutil.copytree(pools / pool, tmp_path / pool)
        return TAKES.format(pool=pool)

    return command


def ab(run_kvbench: Run, base: str, new: str, *options: str) -> tuple[int, str, str]:
    return run_kvbench("compare", "--ab", "--pairs", "5", "--results", "both", *options, base, new)


def test_a_slower_command_is_found_and_the_order_changes_from_pair_to_pair(
    run_kvbench: Run, taking: Callable[[str], str], tmp_path: Path
) -> None:
    code, out, err = ab(run_kvbench, taking("equal"), taking("slow"))
    assert (1, True) == (code, "**SLOWER**" in out), out + err
    order = (tmp_path / "order").read_text().split()
    assert ["equal", "slow", "slow", "equal", "equal", "slow", "slow", "equal", "equal", "slow"] == order
    assert ["01", "02", "03", "04", "05"] == sorted(each.name for each in (tmp_path / "both" / "new").iterdir())
    # The folders are as `compare` takes them, so that anyone can judge again.
    assert (1, out) == run_kvbench("compare", "both/base", "both/new")[:2]


def test_the_same_command_twice_is_no_change(run_kvbench: Run, taking: Callable[[str], str]) -> None:
    code, out, err = ab(run_kvbench, taking("equal"), taking("again"))
    assert (0, True) == (code, "**SAME**" in out), out + err
    assert 10 == sum(" measured in " in line for line in err.splitlines())


def test_a_command_that_fails_ends_it_with_the_last_line_it_printed(
    run_kvbench: Run, taking: Callable[[str], str], tmp_path: Path
) -> None:
    code, out, err = ab(run_kvbench, taking("equal"), "echo no such flag >&2; exit 7 #")
    assert (4, "") == (code, out)
    assert "kvbench: new: the command ended with exit code 7: no such flag (all it printed: " in err
    assert ["01"] == [each.name for each in (tmp_path / "both" / "base").iterdir()]
    assert "no such flag\n" == (tmp_path / "both" / "failed" / "output.log").read_text()


def test_a_command_that_measures_nothing_is_no_pass(run_kvbench: Run, taking: Callable[[str], str]) -> None:
    code, out, err = ab(run_kvbench, taking("equal"), "true #")
    assert (4, "") == (code, out)
    assert "new: the command wrote no run into the folder it was given: it printed nothing" in err


def test_what_is_finished_stays_after_ctrl_c_and_is_not_measured_again(
    run_kvbench: Run, taking: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, new = taking("equal"), taking("slow")
    told: list[str] = []

    def interrupted(line: str) -> None:
        told.append(line)
        if len(told) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("kvbench.commands.compare._tell", interrupted)
    assert 130 == ab(run_kvbench, base, new)[0]
    assert "finished processes are in both, and --results both goes on from there" in told[-1]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    code, out, err = ab(run_kvbench, base, new)
    assert (1, 3) == (code, sum("was measured before" in line for line in err.splitlines())), out + err


def test_a_process_that_is_at_work_is_ended_with_us_and_leaves_nothing(tmp_path: Path) -> None:
    began, late = tmp_path / "began", tmp_path / "late"
    side = Side("base", f"touch {began}; sleep 20; touch {late}; echo {{results}}", tmp_path, "")

    class Stopping(Exception):
        pass

    def waits(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        while not began.exists():
            threading.Event().wait(0.01)
        monkeypatch.undo()
        raise Stopping

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(subprocess.Popen, "wait", waits)
        with pytest.raises(Stopping):
            alternate([side], 1, tmp_path / "both", lambda line: None)
    assert not late.exists()
    assert [] == [each for each in (tmp_path / "both").iterdir() if each.name != alternating.PLAN]


def test_a_folder_of_another_comparison_is_refused(run_kvbench: Run, tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / alternating.PLAN).write_text("{}")
    code, _, err = ab(run_kvbench, "true", "true")
    assert (2, True) == (code, "both: holds another comparison" in err)
    (tmp_path / "both" / alternating.PLAN).rename(tmp_path / "both" / "letter.txt")
    code, _, err = ab(run_kvbench, "true", "true")
    assert (2, True) == (code, "both: is not empty and holds no comparison" in err)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("base", "new", "--pairs=5"), "--pairs: goes with --ab or --ab-revisions"),
        (("--ab", "a", "b", "--setup=make"), "--setup: goes with --ab-revisions"),
        (("--ab", "a", "b", "mode=cached"), "mode=cached: overrides go with --ab-revisions"),
        (("--ab", "a", "b", "--pairs=4"), "--pairs 4: a verdict needs at least 5 processes a side"),
        (("--ab-revisions", "a", "b", "--", "results_dir=x"), "results_dir: --results names the folder of both sides"),
        (("--ab", "--ab-revisions", "a", "b"), "not allowed with argument"),
    ],
)
def test_what_would_do_nothing_is_refused(run_kvbench: Run, arguments: tuple[str, ...], reason: str) -> None:
    code, out, err = run_kvbench("compare", *arguments)
    assert (2, "") == (code, out)
    assert reason in err


class TestRevisions:
    @pytest.fixture
    def repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        folder = tmp_path / "repository"
        folder.mkdir()
        monkeypatch.chdir(folder)
        self.git("init", "--quiet", "--initial-branch=main")
        for text in ("first", "second"):
            (folder / "mine.py").write_text(f"# {text}\n")
            self.git("add", ".")
            self.git("-c", "user.name=toy", "-c", "user.email=toy@localhost", "commit", "--quiet", "-m", text)
        yield folder
        assert 1 == len(self.git("worktree", "list").splitlines()), "a checkout was left behind"

    @staticmethod
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout

    def test_each_is_checked_out_and_prepared(self, repository: Path) -> None:
        with checkouts.checked_out(
            (("base", "HEAD~1"), ("new", "main")), ["mode=cached", "model.target=mine:build"], "echo yes > ready", None
        ) as sides:
            texts = [((side.folder / "mine.py").read_text(), (side.folder / "ready").read_text()) for side in sides]
            assert [("# first\n", "yes\n"), ("# second\n", "yes\n")] == texts
            assert "-m kvbench mode=cached model.target=mine:build results_dir=/r" in sides[0].line(Path("/r"))
            # The same in the next checkout, or what is finished could not be found again.
            assert sides[0].command == sides[1].command
            assert self.git("rev-parse", "HEAD~1", "main").split() == [side.version for side in sides]

    def test_code_that_comes_from_elsewhere_is_refused(self, repository: Path) -> None:
        with (
            pytest.raises(Exception, match=r"base: the module json comes from .* not from the checkout"),
            checkouts.checked_out((("base", "HEAD~1"), ("new", "main")), ["model.target=json:loads"], None, None),
        ):
            pass

    def test_a_revision_that_there_is_not_and_a_setup_that_fails(self, run_kvbench: Run, repository: Path) -> None:
        repository.joinpath("x").mkdir()
        code = main(["compare", "--ab-revisions", "nowhere", "main"])
        assert 2 == code
        with (
            pytest.raises(alternating.Unfinished, match="base: --setup ended with exit code 9: exit 9"),
            checkouts.checked_out((("base", "main"), ("new", "main")), [], "exit 9", None),
        ):
            pass
