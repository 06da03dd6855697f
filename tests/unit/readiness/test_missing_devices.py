"""A device is refused without torch where it is certainly missing, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvbench import readiness
from kvbench.errors import DeviceUnavailable
from kvbench.readiness import build_without_gpu, most_devices, require_device

FOR_CPU = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
FOR_CUDA = "__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
FOR_ROCM = "__version__ = '2.13.0+rocm'\ncuda: Optional[str] = None\nhip: Optional[str] = '7.0'\n"


def nvml(count: int, mig: int = 0) -> Any:
    """A driver with so many devices."""
    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMigMode=lambda handle: [mig, mig],
    )


def broken() -> Any:
    """A driver that does not answer."""

    def fail() -> None:
        raise RuntimeError

    return SimpleNamespace(nvmlInit=fail, nvmlShutdown=fail)


def test_a_torch_for_the_cpu_alone_is_known_by_its_version_file() -> None:
    assert "torch 2.13.0+cpu is built without GPU support" in (build_without_gpu(FOR_CPU) or "")
    assert [None] * 4 == [build_without_gpu(text) for text in (FOR_CUDA, FOR_ROCM, "", None)]


@pytest.mark.parametrize(
    ("visible", "driver", "most"),
    [
        (None, nvml(2), 2),
        ("0", nvml(2), 1),
        ("0,1,2", nvml(2), 2),
        ("", nvml(2), 0),
        ("MIG-1234", nvml(1), None),
        (None, nvml(1, mig=1), None),
        (None, broken(), None),
    ],
)
def test_so_many_devices_can_be_seen_at_most(visible: str | None, driver: Any, most: int | None) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert most == most_devices(environ, driver)


def build(monkeypatch: pytest.MonkeyPatch, text: str, dev: Path) -> None:
    """Has this machine look as if it had such a torch and such device files."""
    readiness._no_cuda.cache_clear()
    monkeypatch.setattr(readiness, "_torch_version_file", lambda: text)
    monkeypatch.setattr(readiness, "DEV", dev)


def test_a_driver_s_file_leaves_the_say_to_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build(monkeypatch, FOR_CUDA, tmp_path)
    monkeypatch.setattr(readiness, "most_devices", lambda environ: 1)
    (tmp_path / "nvidiactl").touch()
    require_device("cuda")
    require_device("cuda:0")
    with pytest.raises(DeviceUnavailable, match="device=cuda:1: there is no such GPU; torch can use cuda:0"):
        require_device("cuda:1")


def test_a_torch_without_gpu_support_refuses_every_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build(monkeypatch, FOR_CPU, tmp_path)
    for device in ("cuda", "cuda:3"):
        with pytest.raises(DeviceUnavailable, match=f"device={device}: torch 2.13.0"):
            require_device(device)
    require_device("cpu")
    require_device("auto")


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="device files of Linux")
def test_neither_files_nor_library_of_a_driver_is_certain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build(monkeypatch, FOR_CUDA, tmp_path)
    monkeypatch.setattr(readiness.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    with pytest.raises(DeviceUnavailable, match="no GPU driver on this machine"):
        require_device("cuda")
    readiness._no_cuda.cache_clear()
    monkeypatch.setattr(readiness.ctypes, "CDLL", lambda name: object())
    require_device("cuda")


@pytest.fixture(autouse=True)
def forget() -> Any:
    """What one test made of this machine must not reach the next."""
    yield
    readiness._no_cuda.cache_clear()
