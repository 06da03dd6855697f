"""A loaded model, ready for one run: what the job asks of it. The real one decodes, the scripted one pretends to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kvbench.decoding.protocol import Decoder
from kvbench.measuring.clocks import Clock
from kvbench.measuring.sensors import DeviceSensors
from kvbench.plan import Attempt, Plan
from kvbench.records.agreement_figures import AgreementFigures, ReferenceDistance
from kvbench.records.evidence import HostCheck, RunWarning
from kvbench.records.rescoring import RescoreSamples
from kvbench.records.samples import Prepared, Shapes
from kvbench.records.scaling import Capacity
from kvbench.records.untimed import CountedFlops, StepWork, TracedPass, UntimedPass
from kvbench.running.prompt_batches import PromptBatches
from kvbench.running.team import Team


class Decoders(Protocol):
    """Makes decoders for the arms of a run, with the sampling settings of its plan."""

    def plain(self, arm: int, *, attention: str | None = None) -> Decoder:
        """The decoder that is timed; `attention` takes the place of the arm's own."""

    def traced(self, arm: int) -> Decoder:
        """A decoder that also tells the confidence of each token."""

    def prepared_s(self, arm: int) -> float | None:
        """Seconds that an arm's engine has spent so far on compiling and capturing; None for one that does neither."""


class Session(Protocol):
    """One plan on one loaded model: what is timed, and what it is timed with."""

    @property
    def plan(self) -> Plan:
        """What is to be measured."""

    @property
    def prepared(self) -> Prepared:
        """What is known before the first measurement."""

    @property
    def batches(self) -> PromptBatches[Any]:
        """The prompts on the device, in file order."""

    @property
    def decoders(self) -> Decoders:
        """What decodes them, by arm."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """What ends a sequence in the timed runs; empty when nothing does."""

    @property
    def clock(self) -> Clock:
        """Where this session's time passes."""

    @property
    def sensors(self) -> DeviceSensors:
        """What the device tells of itself, or all devices that the model is on, added up."""

    @property
    def team(self) -> Team:
        """The processes that decode this model together."""

    @property
    def untimed(self) -> Untimed:
        """What is looked at without being timed."""


@dataclass(frozen=True)
class Untimed:
    """What a job looks at without timing it: functions over a session of one kind, a real one or a scripted one."""

    # Some prompts' continuations: calls `say(kind, text)` with kind prompt, piece or end.
    show_text: Callable[[Any, Callable[[str, str], None]], None]
    # Of one prefill and of one step of each mode; runs a few steps, so it comes after the first visits.
    shapes: Callable[[Any], Shapes]
    # A warning where padding changes what the model makes of a prompt, or none.
    padding: Callable[[Any], RunWarning | None]
    # An arm over every batch, with its memory and its proof observed instead of its time.
    pass_of: Callable[[Any, int], UntimedPass]
    # An arm over every batch, with the confidence of each new token observed instead of its time.
    traced_pass: Callable[[Any, int], TracedPass]
    # Every arm but the first against the first on its token path, given the untimed passes of all arms; calls
    # `tell(done, total)` on the way.
    agreements: Callable[[Any, Sequence[UntimedPass], Callable[[int, int], None]], Sequence[AgreementFigures]]
    # How far every arm is from the same model in the type of `check.reference`, given their untimed passes.
    # A warning in their place where the model cannot be computed in that type.
    references: Callable[[Any, Sequence[UntimedPass]], Sequence[ReferenceDistance] | Sequence[RunWarning]]
    # Every arm's own log-probabilities beside those of one pass over what it wrote; calls `tell(done, total)`.
    rescores: Callable[[Any, Callable[[int, int], None]], Sequence[RescoreSamples]]
    # One attention besides the arm's own that can decode it, or none.
    other_attentions: Callable[[Any, int], tuple[str, ...]]
    # Allocations that the allocator made on the device so far, and the device's bytes outside of it.
    device_state: Callable[[Any], tuple[int | None, int | None]]
    # How fast the host is just now; takes a fraction of a second.
    host_check: Callable[[Any], HostCheck]
    # What a decode step of an arm is made of. Profiles, so it comes after everything that is timed.
    step_work: Callable[[Any, int], StepWork]
    # FLOPs of one prefill by torch's counter, to hold the predicted ones against.
    counted_flops: Callable[[Any], CountedFlops]
    # The memory that sizes are sought for. Raises `DeviceUnavailable` where no limit could be kept.
    capacity: Callable[[Any], Capacity]
    # One size decoded: the most bytes that were in use meanwhile, None where they cannot be told.
    peak_of: Callable[[Any, Attempt], int | None]


class Backend(Protocol):
    """A loaded model, kept between the runs of a sweep."""

    def put_back(self, *, shared: bool = False) -> str | None:
        """Leave nothing of a run behind but the model's weights; in words, what stayed all the same.

        In a `shared` process, a caller's own, compiled code and memory are left alone.
        """

    def session(self, plan: Plan) -> Session:
        """Prepare one run. Raises `BadInput` when the plan does not fit the model, `Infeasible` when not the memory."""
