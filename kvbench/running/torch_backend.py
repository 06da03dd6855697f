"""The model that a configuration names, loaded once for all runs of a sweep."""

from __future__ import annotations

import platform
from typing import Any

import psutil
import torch

from kvbench.config.schema import Config
from kvbench.measuring.environment import device_uuid, torch_environment
from kvbench.measuring.memory import Footprint, footprint, summed
from kvbench.measuring.probes import check_host
from kvbench.measuring.sensors import DeviceSensors, open_sensors
from kvbench.models.devices import resolve
from kvbench.models.loading import LoadedModel, load
from kvbench.models.own import load_own
from kvbench.plan import Plan
from kvbench.running.arm_agreement import agreements, references
from kvbench.running.arm_rescore import rescores
from kvbench.running.leases import Place, cpu_place
from kvbench.running.model_on_device import ModelOnDevice, places_of
from kvbench.running.outputs import shapes, show_text, traced_pass
from kvbench.running.padding import padding_taken_for_text
from kvbench.running.pass_memory import capacity, pass_of, peak_of
from kvbench.running.preconditions import require_machine
from kvbench.running.sessions import Untimed
from kvbench.running.step_work import counted_flops, step_work
from kvbench.running.team import ALONE, RankPlace, Team
from kvbench.running.torch_session import TorchSession, other_attentions
from kvbench.running.torch_team import device_of, join
from kvbench.running.worker_state import WorkerState

DEFAULT_THREADS = torch.get_num_threads()  # a point of a sweep must not inherit those of the point before

UNTIMED = Untimed(
    show_text=show_text,
    shapes=shapes,
    padding=padding_taken_for_text,
    pass_of=pass_of,
    traced_pass=traced_pass,
    agreements=agreements,
    references=references,
    rescores=rescores,
    other_attentions=other_attentions,
    device_state=lambda session: (session.meter.device_allocations(), session.meter.outside_bytes()),
    host_check=lambda session: check_host(session.model.device),
    step_work=step_work,
    counted_flops=counted_flops,
    capacity=capacity,
    peak_of=peak_of,
)


class TorchBackend(ModelOnDevice):
    """A loaded model on its device, ready for one plan after another."""

    def __init__(
        self,
        loaded: LoadedModel,
        device: torch.device,
        sensors: DeviceSensors,
        empty: Footprint | None = None,
        empty_rss_bytes: int = 0,
        team: Team = ALONE,
    ) -> None:
        super().__init__(loaded, device, sensors, empty, empty_rss_bytes, team)
        self._state = WorkerState(loaded.model, device)

    def session(self, plan: Plan) -> TorchSession:
        """One plan on this model, checked against it."""
        return TorchSession(self, plan, UNTIMED)

    def put_back(self, *, shared: bool = False) -> str | None:
        """Put back what a run has changed; in words, what stayed changed all the same."""
        return self._state.put_back(shared=shared)


def load_backend(plan: Plan, rank: RankPlace | None = None) -> TorchBackend:
    """Load the model of a plan, or this rank's part of it, with torch's threads as it says (see `named_backend`)."""
    torch.set_num_threads(plan.config.threads or max(1, DEFAULT_THREADS // (1 if rank is None else rank.size)))
    return named_backend(plan, rank)


def named_backend(plan: Plan, rank: RankPlace | None = None) -> TorchBackend:
    """Load the model that a plan names. Raises `ModelUnavailable`, `DeviceUnavailable` or `Infeasible`."""
    config = plan.config
    device = resolve(config.device)
    require_machine(plan, device)
    if rank is not None:
        device = device_of(rank, device)
    on_all = [device] if config.model.device_map is None or device.type != "cuda" else _every_gpu()
    before = {each: footprint(each) for each in on_all}  # before anything of ours is there
    team: Team = ALONE if rank is None else join(rank, device)
    rss_bytes = psutil.Process().memory_info().rss
    if config.model.weights == "python":
        loaded = load_own(config.model, plan.model_name, device)
    else:
        loaded = load(config.model, device)
    used = [torch.device(each) for each in places_of(loaded.model) if each.startswith("cuda")] or [device]
    empty = summed([before.get(each) for each in used])
    return TorchBackend(loaded, device, open_sensors(*map(device_uuid, used)), empty, rss_bytes, team)


def _every_gpu() -> list[torch.device]:
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]


def place_on(config: Config) -> Place:
    """The device of a configuration, or all of those that its model is spread over. Raises `DeviceUnavailable`."""
    device = resolve(config.device)
    if device.type == "cuda" and config.model.tensor_parallel > 1:
        return place_of(*(torch.device("cuda", index) for index in range(config.model.tensor_parallel)))
    if device.type == "cuda" and config.model.device_map is not None:
        return place_of(*(torch.device("cuda", index) for index in range(torch.cuda.device_count())))
    return place_of(device)


def place_of(*devices: torch.device) -> Place:
    """Devices of one type, to be had alone."""
    if devices[0].type == "cpu":
        return cpu_place()
    names = (device_uuid(each) or f"{platform.node()}-{each}" for each in devices)
    return Place(", ".join(map(str, devices)), tuple(names))


def environment_of(config: Config) -> dict[str, Any]:
    """The environment that a configuration would be measured in. Raises `DeviceUnavailable`."""
    device, threads = resolve(config.device), torch.get_num_threads()
    torch.set_num_threads(config.threads or DEFAULT_THREADS)
    try:
        return torch_environment(device, open_sensors(device_uuid(device)))
    finally:
        torch.set_num_threads(threads)  # the question may be about another point than the next one
