"""Ranks as their parent sees them: one that hangs is named, and so is the one that another rank has lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvbench.config.compose import load_config, sources
from kvbench.errors import KvbenchError, OutOfMemory, RankLost, RunFailed, WorkerCrashed
from kvbench.plan import make_plan
from kvbench.running import ranks
from kvbench.running.faults import Fault
from kvbench.running.ranks import Ranks
from kvbench.running.supervisor import Supervisor
from kvbench.running.team import OfOneScript, launched_place
from kvbench.running.worker import Done

LOST = RankLost("rank 0 lost the other ranks: connection closed by peer")


def test_one_that_hangs_when_the_others_have_ended_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "IN_STEP_S", 0.3)
    hanging = ("model.fail_on_rank=1", "model.fail_at_step=3", "model.fail_with=hang", "measure.timeout_s=100")
    script = ("model=scripted", "model.tensor_parallel=2", "workload.prompt_tokens=4", "workload.new_tokens=4")
    plan = make_plan(load_config([*script, *hanging], sources()))
    with Supervisor() as supervisor, pytest.raises(WorkerCrashed, match=r"rank 1 did not end the run within 0.3 s"):
        supervisor.measure(plan, tmp_path / "log", lambda _message: None)


class _Process:
    """A rank's process that has ended, or not."""

    pid, sentinel = 1, -1

    def __init__(self, exitcode: int | None) -> None:
        self.exitcode = exitcode

    def is_alive(self) -> bool:
        return self.exitcode is None


class _Connection:
    """A connection on which one message waits, or none."""

    def __init__(self, *messages: Any) -> None:
        self._messages = list(messages)

    def poll(self) -> bool:
        return bool(self._messages)

    def recv(self) -> Any:
        return self._messages.pop()


def others(*each: tuple[int | None, Any]) -> Ranks:
    """Ranks 1, 2 … by exit code and message, of which None is none."""
    of = [
        ranks._Rank(number, _Process(code), _Connection(*() if message is None else (message,)))  # type: ignore[arg-type]
        for number, (code, message) in enumerate(each, start=1)
    ]
    return Ranks(len(each) + 1, None, of)


@pytest.mark.parametrize(
    ("told", "of_others", "kind", "said"),
    [
        (LOST, [(-9, None)], WorkerCrashed, "rank 1 of 2 ended without an answer (signal 9)"),
        (LOST, [(None, Fault("OutOfMemory", "no room"))], OutOfMemory, "rank 1: no room"),
        (LOST, [(None, None)], WorkerCrashed, "rank 1 did not answer any more"),
        (LOST, [(None, Fault("RankLost", "rank 1 lost")), (None, None)], RankLost, "rank 1 lost"),
        (LOST, [(None, Fault("RankLost", "rank 1 lost")), (-11, None)], WorkerCrashed, "rank 2 of 3 ended"),
        (RunFailed("its own"), [(None, None)], RunFailed, "its own"),
        (RunFailed("its own"), [], RunFailed, "its own"),
    ],
)
def test_what_ended_a_run_is_the_rank_that_was_not_merely_left_alone(
    told: KvbenchError, of_others: list[tuple[int | None, Any]], kind: type, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "LAST_WORDS_S", 0.0)
    monkeypatch.setattr(ranks, "wait", lambda *_, **__: [])
    found = others(*of_others)
    for each in found._others:
        found._hear(each)
    blamed = found.blame(told)
    assert (kind, True) == (type(blamed), said in str(blamed))


def test_ranks_that_have_ended_their_run_are_fine() -> None:
    found = others((None, Done(True)), (None, Done(True)))
    found.require_alive()
    found.require_done(1.0)


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"WORLD_SIZE": "2"}, None),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (3, 4, 1)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, (3, 4, 3)),
    ],
)
def test_the_place_is_what_torchrun_says(environ: dict[str, str], place: tuple[int, int, int] | None) -> None:
    found = launched_place(environ)
    assert place == (None if found is None else (found.rank, found.size, found.local_rank))


def test_ranks_of_one_script_know_each_other() -> None:
    team = OfOneScript(1, 3)
    assert ("a", "a", "a") == team.gathered("a")
    assert 7 == team.led(lambda: 7)
