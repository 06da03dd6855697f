"""The process that owns model and device: takes plans from its parent, sends back what is learnt."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import sys
import threading
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kvbench.capabilities import EAGER
from kvbench.config.schema import ModelConfig
from kvbench.errors import OutOfMemory, RankLost, is_out_of_memory, reason_of
from kvbench.measuring.environment import ALL_DEVICES, STABLE
from kvbench.plan import Plan
from kvbench.records.evidence import RunWarning
from kvbench.records.samples import Prepared
from kvbench.records.scaling import Attempted, Attempting
from kvbench.running.faults import Fault, fault_of, ignore_interrupts
from kvbench.running.job import Emit, Progress, run_job
from kvbench.running.leases import Place, cpu_place, leased
from kvbench.running.sessions import Backend, Session
from kvbench.running.team import RankPlace

STAYS = "the process is not as it was before this run, so measure anything else in a new one"


@dataclass(frozen=True)
class Order:
    """One plan to measure; what libraries print meanwhile goes to `log`.

    `place` is where this process stands among the ranks; None where it is the only one.
    """

    plan: Plan
    log: Path
    place: RankPlace | None = None


@dataclass(frozen=True)
class Survey:
    """A question: the environment that this plan would be measured in, as far as `resume_key` needs it."""

    plan: Plan


@dataclass(frozen=True)
class Done:
    """The plan is measured; everything was sent before this.

    `is_fit` is whether the process is as it was before, as far as is known, so that it may time another plan.
    """

    is_fit: bool


def open_backend(plan: Plan, rank: RankPlace | None = None) -> Backend:
    """Load the model of a plan. Raises `ModelUnavailable`, `DeviceUnavailable` or `Infeasible`."""
    if plan.config.model.weights == "scripted":
        from kvbench.running.scripted import ScriptedBackend

        return ScriptedBackend(plan.config.model, rank)
    from kvbench.running.torch_backend import load_backend

    return load_backend(plan, rank)


def place_of(plan: Plan) -> Place | None:
    """What a plan is measured on, to be had alone; None for a script without devices. Raises `DeviceUnavailable`."""
    if plan.config.model.weights == "scripted":
        from kvbench.running.scripted import scripted_place

        return scripted_place(plan.config.model)
    if plan.config.device == "cpu":  # told without waiting for torch, which would keep cores busy that others time on
        return cpu_place()
    from kvbench.running.torch_backend import place_on

    return place_on(plan.config)


def stable_environment(plan: Plan) -> dict[str, Any]:
    """What a record of this plan would say of what its `resume_key` holds. Raises `DeviceUnavailable`."""
    if plan.config.model.weights == "scripted":
        from kvbench.running.scripted import environment_of_script

        environment = environment_of_script()
    else:
        from kvbench.running.torch_backend import environment_of

        environment = environment_of(plan.config)
    return {name: environment.get(name) for name in (*STABLE, ALL_DEVICES)}


class Workshop:
    """Keeps the last model, so that a sweep over one model loads it once.

    One that is `alone` has its process to itself: what it imports is left out of all later collections of garbage.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self._must_freeze = alone
        self._key: tuple[ModelConfig, str, int | None] | None = None
        self._backend: Backend | None = None
        self._runs = 0  # so far, whole or not

    def measure(
        self, plan: Plan, emit: Emit, run: str = "a run without a folder", rank: RankPlace | None = None
    ) -> bool:
        """Wait for the device, load if needed, then run the job; whether nothing stays behind but the model's weights.

        `run` is what others are told that wait for the device. Of several ranks the first waits for all their devices.
        """
        place = place_of(plan) if rank is None or rank.rank == 0 else None
        if place is None:
            return self._measure(plan, emit, rank)
        with leased(place, run, emit, whole_host=plan.config.measure.exclusive == "host"):
            return self._measure(plan, emit, rank)

    def _measure(self, plan: Plan, emit: Emit, rank: RankPlace | None) -> bool:
        key = (plan.config.model, plan.config.device, plan.config.threads)
        # A scripted model starts its script anew for every run: its figures must not depend on the run before.
        if self._must_freeze and plan.config.model.weights != "scripted":
            freeze_imports()
            self._must_freeze = False
        if self._backend is None or key != self._key or plan.config.model.weights == "scripted":
            self._backend = None  # the old weights go before the new ones come
            emit(Progress("loading", 0, None))
            self._backend = open_backend(plan, rank)
            self._key = key
        protocol = run_job if plan.config.frontier.axes is None else run_attempt
        try:
            protocol(self._backend.session(plan), self._numbered(emit))
        except BaseException:
            put_back(self._backend)  # what ended the run is what is told
            raise
        finally:
            self._runs += 1
        left_behind = put_back(self._backend)
        if left_behind is not None:
            emit(RunWarning(code="worker_state", detail=f"{STAYS}: {left_behind}"))
        return left_behind is None and not leaves_compiled_code(plan)

    def _numbered(self, emit: Emit) -> Emit:
        """Puts into the environment how many runs this process has seen before."""
        earlier_runs = self._runs

        def numbered(message: Any) -> None:
            if isinstance(message, Prepared):
                worker = {**message.environment.get("worker", {}), "earlier_runs": earlier_runs}
                message = replace(message, environment={**message.environment, "worker": worker})
            emit(message)

        return numbered


def put_back(backend: Backend, *, shared: bool = False) -> str | None:
    """`Backend.put_back`, with its own failure as an answer: a finished run is not lost over it."""
    try:
        return backend.put_back(shared=shared)
    except Exception as error:
        return f"putting it back failed ({reason_of(error)})"


def leaves_compiled_code(plan: Plan) -> bool:
    """Whether a run compiled or captured a step, after which its process times no other run.

    torch takes back what it compiled, and eager steps of a later point were 1.4 to 1.6 times as slow all the same,
    while small launches were not (NVIDIA H200, docs/log.md). What stays is not known, so the process goes.
    """
    is_real = plan.config.model.weights != "scripted"
    return is_real and any(arm.engine != EAGER for arm in plan.arms)


def run_name(log: Path) -> str:
    """What a run is called by those that wait for its device: the end of its folder's path."""
    return "/".join(log.parent.parts[-2:])


def main(parent: Connection) -> None:
    """Serve plans until the parent hangs up. Ctrl-C is the parent's to handle."""
    ignore_interrupts()
    faulthandler.enable()
    workshop = Workshop(alone=True)
    is_bound = False
    try:
        while True:
            order: Order | Survey = parent.recv()
            if isinstance(order, Survey):
                parent.send(survey(order.plan))
                continue
            if order.place is not None and order.place.rank > 0 and not is_bound:
                threading.Thread(target=_end_with_parent, daemon=True).start()
                is_bound = True
            try:
                _redirect_output(order.log)
                # Of several ranks the first one tells what is learnt; all of them tell how it ended.
                emit = parent.send if order.place is None or order.place.rank == 0 else _silent
                is_fit = workshop.measure(order.plan, emit, run_name(order.log), order.place)
            except Exception as error:
                traceback.print_exc()
                parent.send(_fault(error))
            else:
                parent.send(Done(is_fit))
    except (EOFError, ConnectionError):
        return  # the parent is gone: nobody wants the rest


def _end_with_parent() -> None:
    """Leave when the parent is gone, also in mid-run: a rank that says nothing does not notice by itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _silent(_message: object) -> None:
    """Nobody is told."""


def _fault(error: Exception) -> Fault:
    """`fault_of`, and where another rank is gone, that."""
    ranks = sys.modules.get("kvbench.running.torch_team")  # loaded where this process has met others
    lost = None if ranks is None or is_out_of_memory(error) else ranks.lost_rank(error)
    return fault_of(error) if lost is None else Fault(RankLost.__name__, lost)


def freeze_imports() -> None:
    """Import torch and transformers, and leave what they are made of out of all later collections of garbage.

    A run collects before each of its passes, and each time looked through a million objects that never go.
    """
    import kvbench.running.torch_backend  # noqa: F401

    gc.freeze()


def survey(plan: Plan) -> dict[str, Any] | Fault:
    """The stable environment of a plan, without loading its model; a fault where its device cannot be had."""
    try:
        return stable_environment(plan)
    except Exception as error:
        return fault_of(error)


def _redirect_output(log: Path) -> None:
    """Send this process's standard output and error, C libraries' included, to the run's log.

    A log that cannot be opened costs itself, not the run.
    """
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def run_attempt(session: Session, emit: Emit) -> None:
    """The worker's part of a frontier: tell what there is, or decode one size and survive it.

    Without an attempt in the plan: model and capacity. With one: that size.

    Raises `OutOfMemory` also for a try that came to its end with more than it was allowed: its parent looks at it
    every few milliseconds and can miss a peak, the high-water mark cannot.
    """
    attempt = session.plan.attempt
    if attempt is None:
        emit(session.prepared)
        emit(session.untimed.capacity(session))
        return
    emit(Attempting())
    peak_bytes = session.untimed.peak_of(session, attempt)
    emit(Attempted(peak_bytes))
    if attempt.limit_bytes is not None and peak_bytes is not None and peak_bytes > attempt.limit_bytes:
        raise OutOfMemory(f"came to its end with {peak_bytes:,} bytes, and {attempt.limit_bytes:,} are allowed")
