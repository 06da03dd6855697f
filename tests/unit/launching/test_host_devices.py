"""Which devices of a host a sweep spreads over, and which cores go with each."""

from __future__ import annotations

from typing import Any

import pytest

from kvbench.config.compose import load_config, sources
from kvbench.launching.host_devices import cores_of, device_choices, visible_gpus

UUIDS = ["GPU-aaaa-1", "GPU-bbbb-2", "GPU-cccc-3"]


class Nvml:
    """Three GPUs, as pynvml tells of them."""

    def __init__(self, *, names: tuple[str, ...] = ("H200",) * 3, mig: int = 0) -> None:
        self.names, self.mig = names, mig

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    nvmlShutdown = nvmlInit  # noqa: N815

    def __getattr__(self, name: str) -> Any:
        return {
            "nvmlDeviceGetCount": lambda: 3,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda index: UUIDS[index],
            "nvmlDeviceGetName": lambda index: self.names[index],
            "nvmlDeviceGetMigMode": lambda _: [self.mig, self.mig],
        }[name]


@pytest.mark.parametrize(
    ("variables", "seen"),
    [
        ({}, UUIDS),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, ["GPU-cccc-3", "GPU-aaaa-1"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bbbb-2"}, ["GPU-bbbb-2"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bb"}, ["GPU-bbbb-2"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "7"}, []),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1"}, []),
    ],
)
def test_what_is_hidden_is_not_used(variables: dict[str, str], seen: list[str]) -> None:
    assert seen == visible_gpus(variables, Nvml())


def test_numbers_of_unlike_gpus_are_not_guessed() -> None:
    unlike = Nvml(names=("H200", "T4", "H200"))
    assert [] == visible_gpus({"CUDA_VISIBLE_DEVICES": "1"}, unlike)
    by_place = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert ["GPU-bbbb-2"] == visible_gpus(by_place, unlike)
    assert UUIDS == visible_gpus({}, unlike)


def test_gpus_that_are_cut_up_are_left_to_the_worker() -> None:
    assert [] == visible_gpus({}, Nvml(mig=1))


def test_a_point_that_names_its_device_has_no_choice() -> None:
    def choices(*overrides: str) -> list[str]:
        return [lease.rpartition("-")[2] for lease, _ in device_choices(load_config(overrides, sources()), {})]

    assert ["0", "1", "2"] == choices("model=scripted", "model.devices=3")
    assert [] == choices("model=scripted")
    assert [] == choices("device=cpu")
    assert [] == choices("device=cuda:1")


@pytest.mark.parametrize(("lanes", "cores"), [(1, 8), (2, 8), (3, 8), (8, 8), (3, 2), (16, 4)])
def test_cores_are_split_and_none_is_idle(lanes: int, cores: int) -> None:
    own = [cores_of(lane, lanes, range(cores)) for lane in range(lanes)]
    assert all(own)
    assert set(range(cores)) == {core for each in own for core in each}
    if lanes <= cores:
        assert cores == sum(map(len, own))
