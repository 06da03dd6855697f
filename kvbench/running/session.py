"""A loaded model, ready for one run: what the job asks of it. The real one decodes, the scripted one pretends to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kvbench.decoding.protocol import Decoder, Pass
from kvbench.measuring.agreement_figures import AgreementFigures, ReferenceFigures
from kvbench.measuring.clocks import Clock
from kvbench.measuring.environment import ALL_DEVICES, STABLE
from kvbench.measuring.samples import Prepared, Shapes
from kvbench.measuring.sensors import DeviceSensors
from kvbench.measuring.step_work import CountedFlops, StepWork
from kvbench.measuring.traced_pass import TracedPass
from kvbench.measuring.tries import Capacity
from kvbench.measuring.untimed_pass import Proof, UntimedPass
from kvbench.plan import Attempt, Plan
from kvbench.records.host_checks import HostCheck


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

    @property
    def sensors(self) -> DeviceSensors:
        """What the device tells of itself."""

    def decoder(self, arm: int, *, traced: bool = False, attention: str | None = None) -> Decoder:
        """The decoder of an arm, with the sampling settings of the plan; `traced` with token confidence.

        `attention` takes the place of the arm's own.
        """

    def prepared_s(self, arm: int) -> float | None:
        """Seconds that an arm's engine has spent so far on compiling and capturing; None for one that does neither."""

    def new_ids(self, decoded: Any) -> list[list[int]]:
        """New token ids of each sequence, up to and including its stop id. Reads from the device."""

    def proof(self, arm: int, batch: Any, passes: Sequence[Pass]) -> Proof:
        """Hold forward passes over a batch against the promise of the arm's mode."""

    def context_of(self, batch: Any) -> int:
        """Tokens of the longest prompt of a batch."""

    def fresh_batch(self, batch: Any, seed: int) -> Any:
        """A batch of the same shape and kinds of tokens, with prompts that were not decoded before."""

    def unseen_batch(self, arm: int, steps: int) -> Any | None:
        """A batch from which so many steps are at context lengths that no visit has seen.

        None when no length is left, for a mode that is not a plain loop of ours, and where the run is interrupted.

        Every call gives other lengths.
        """

    def decode_batch(self, new_tokens: int) -> tuple[Any, int]:
        """The first batch with room for so many new tokens, or as many as the model's context allows, and how many."""

    def other_attentions(self, arm: int) -> tuple[str, ...]:
        """One attention besides the arm's own that can decode it, or none."""

    def device_state(self) -> tuple[int | None, int | None]:
        """Allocations that the allocator made on the device so far, and the device's bytes outside of it."""

    def host_check(self) -> HostCheck:
        """How fast the host is just now; takes a fraction of a second."""

    def step_work(self, arm: int) -> StepWork:
        """What a decode step of an arm is made of. Profiles, so it comes after everything that is timed."""

    def counted_flops(self) -> CountedFlops:
        """FLOPs of one prefill by torch's counter, to hold the predicted ones against."""

    def show_text(self, say: Callable[[str, str], None]) -> None:
        """Write some prompts' continuations, untimed: calls `say(kind, text)` with kind prompt, piece or end."""

    def untimed(self, arm: int) -> UntimedPass:
        """Run an arm over every batch with its memory and its proof observed instead of its time."""

    def traced(self, arm: int) -> TracedPass:
        """Run an arm over every batch with the confidence of each new token observed instead of its time."""

    def capacity(self) -> Capacity:
        """The memory that sizes are sought for. Raises `DeviceUnavailable` where no limit could be kept."""

    def attempt(self, attempt: Attempt) -> int | None:
        """Decode one size, untimed; the most bytes that were in use meanwhile, None where they cannot be told."""

    def shapes(self) -> Shapes:
        """Shapes of one prefill and of one step of each mode; runs a few steps, so it comes after the first visits."""

    def agreement(self, candidate: int, passes: Sequence[UntimedPass]) -> AgreementFigures:
        """Compare a candidate arm with the first arm on one token path; `passes` are the arms' untimed passes."""

    def references(self, passes: Sequence[UntimedPass]) -> Sequence[ReferenceFigures]:
        """How far every arm is from the same model in the type of `check.reference`; empty when none is asked for."""


class Backend(Protocol):
    """A loaded model, kept between the runs of a sweep."""

    def put_back(self, *, shared: bool = False) -> str | None:
        """Leave nothing of a run behind but the model's weights; in words, what stayed all the same.

        In a `shared` process, a caller's own, compiled code and memory are left alone.
        """

    def session(self, plan: Plan) -> Session:
        """Prepare one run. Raises `BadInput` when the plan does not fit the model, `Infeasible` when not the memory."""


def stable_environment(plan: Plan) -> dict[str, Any]:
    """What a record of this plan would say of what its `resume_key` holds. Raises `DeviceUnavailable`."""
    if plan.config.model.weights == "scripted":
        from kvbench.running.scripted import environment_of_script

        environment = environment_of_script()
    else:
        from kvbench.running.torch_backend import environment_of

        environment = environment_of(plan.config)
    return {name: environment.get(name) for name in (*STABLE, ALL_DEVICES)}


def open_backend(plan: Plan) -> Backend:
    """Load the model of a plan. Raises `ModelUnavailable`, `DeviceUnavailable` or `Infeasible`."""
    if plan.config.model.weights == "scripted":
        from kvbench.running.scripted import ScriptedBackend

        return ScriptedBackend(plan.config.model)
    from kvbench.running.torch_backend import load_backend

    return load_backend(plan.config)
