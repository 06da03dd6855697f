"""The environment tells what bears on times, and null where the machine does not tell."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from kvbench.measuring import environment


def test_the_governor_is_read_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scaling_governor"
    monkeypatch.setattr(environment, "GOVERNOR", file)
    assert environment.base_environment()["cpu_governor"] is None
    file.write_text("powersave\n")
    assert environment.base_environment()["cpu_governor"] == "powersave"


@pytest.mark.parametrize(
    ("battery", "expected"),
    [
        (None, None),
        (SimpleNamespace(power_plugged=True), False),
        (SimpleNamespace(power_plugged=False), True),
        (SimpleNamespace(power_plugged=None), None),
    ],
)
def test_a_battery_is_asked_whether_it_is_in_use(
    battery: object, expected: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert expected is environment.base_environment()["on_battery"]


@pytest.mark.parametrize(
    "name",
    ["TORCH_API_TOKEN", "CUDA_SECRET_KEY", "OMP_PASSWORD", "TORCH_CREDENTIALS", "PYTORCH_PASSPHRASE", "torch_token"],
)
def test_a_variable_named_like_a_secret_is_never_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "canary-4711")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("TORCH_LOGS", "a canary")
    recorded = environment.base_environment()
    assert "canary-4711" not in str(recorded)
    assert {"OMP_NUM_THREADS": "3", "TORCH_LOGS": "a canary"}.items() <= recorded["variables"].items()
