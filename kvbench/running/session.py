"""A loaded model, ready for one run: what the job asks of it. The real one decodes, the scripted one pretends to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kvbench.decoding.protocol import Decoder, Pass
from kvbench.measuring.clocks import Clock
from kvbench.measuring.samples import AgreementFigures, Prepared, Proof, Shapes, TracedPass, UntimedPass
from kvbench.plan import Plan


class Session(Protocol):
    """One plan on one loaded model."""

    @property
    def clock(self) -> Clock:
        """Where this session's time passes."""

    @property
    def prepared(self) -> Prepared:
        """What is known before the first measurement."""

    @property
    def batches(self) -> Sequence[Any]:
        """The prompts on the device, in file order."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """What ends a sequence in the timed runs; empty when nothing does."""

    def decoder(self, arm: int, *, traced: bool = False) -> Decoder:
        """The decoder of an arm, with the sampling settings of the plan; `traced` with token confidence."""

    def new_ids(self, decoded: Any) -> list[list[int]]:
        """New token ids of each sequence, up to and including its stop id. Reads from the device."""

    def proof(self, arm: int, batch: int, passes: Sequence[Pass]) -> Proof:
        """Hold forward passes over a batch against the promise of the arm's mode."""

    def show_text(self, say: Callable[[str, str], None]) -> None:
        """Write some prompts' continuations, untimed: calls `say(kind, text)` with kind prompt, piece or end."""

    def untimed(self, arm: int) -> UntimedPass:
        """Run an arm over every batch with its memory and its proof observed instead of its time."""

    def traced(self, arm: int) -> TracedPass:
        """Run an arm over every batch with the confidence of each new token observed instead of its time."""

    def shapes(self) -> Shapes:
        """Shapes of one prefill and of one step of each mode; runs a few steps, so it comes after the first visits."""

    def agreement(self, candidate: int, passes: Sequence[UntimedPass]) -> AgreementFigures:
        """Compare a candidate arm with the first arm on one token path; `passes` are the arms' untimed passes."""


class Backend(Protocol):
    """A loaded model, kept between the runs of a sweep."""

    def session(self, plan: Plan) -> Session:
        """Prepare one run. Raises `BadInput` when the plan does not fit the model, `Infeasible` when not the memory."""


def open_backend(plan: Plan) -> Backend:
    """Load the model of a plan. Raises `ModelUnavailable`, `DeviceUnavailable` or `Infeasible`."""
    if plan.config.model.weights == "scripted":
        from kvbench.running.scripted_session import ScriptedBackend

        return ScriptedBackend(plan.config.model)
    from kvbench.running.torch_session import load_backend

    return load_backend(plan.config)
