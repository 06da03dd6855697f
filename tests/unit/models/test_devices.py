"""A device is used when torch sees it, and refused in one sentence when not."""

from __future__ import annotations

import pytest
import torch

from kvbench.errors import DeviceUnavailable
from kvbench.models.devices import require_dtype, resolve


@pytest.fixture
def machine(monkeypatch):
    """A machine with some GPUs, as torch would describe it."""

    def describe(gpus=0, mps=False, cuda_version=None, hip_version=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", cuda_version)
        monkeypatch.setattr(torch.version, "hip", hip_version)

    return describe


class TestAutoTakesTheFastestDevice:
    def test_cuda_before_mps_before_cpu(self, machine):
        chosen = []
        for present in ({"gpus": 2, "mps": True}, {"mps": True}, {}):
            machine(**present)
            chosen.append(str(resolve("auto")))
        assert chosen == ["cuda:0", "mps", "cpu"]


class TestANamedDeviceIsTheOneUsed:
    def test_cuda_without_a_number_is_the_first_gpu(self, machine):
        machine(gpus=2, cuda_version="13.0")
        assert torch.device("cuda", 0) == resolve("cuda")
        assert torch.device("cuda", 1) == resolve("cuda:1")

    def test_rocm_is_cuda(self, machine):
        machine(gpus=1, hip_version="7.0")
        assert torch.device("cuda", 0) == resolve("cuda")

    def test_the_cpu_is_always_there(self, machine):
        machine(gpus=1)
        assert torch.device("cpu") == resolve("cpu")


class TestAMissingDeviceIsRefusedWithWhatTorchSees:
    def test_no_gpu(self, machine):
        machine()
        with pytest.raises(DeviceUnavailable, match=r"no CUDA or ROCm GPU.*built without GPU support\) can use cpu$"):
            resolve("cuda")

    def test_a_number_beyond_the_last_gpu(self, machine):
        machine(gpus=2, hip_version="7.0")
        with pytest.raises(DeviceUnavailable, match=r"cuda:5: .*ROCm 7.0\) can use cpu, cuda:0, cuda:1$"):
            resolve("cuda:5")

    def test_no_apple_gpu(self, machine):
        machine()
        with pytest.raises(DeviceUnavailable, match=r"device=mps: .*can use cpu$"):
            resolve("mps")

    def test_float64_on_an_apple_gpu(self):
        with pytest.raises(DeviceUnavailable, match=r"model\.dtype=float64"):
            require_dtype("float64", torch.device("mps"))
        require_dtype("float64", torch.device("cpu"))
