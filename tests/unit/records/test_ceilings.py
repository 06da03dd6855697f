"""What a machine can do at most is kept under what it depends on, and believed only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvbench.errors import RecordError
from kvbench.records.ceilings import (
    Ceilings,
    MatrixRate,
    ReadRate,
    ceilings_file,
    fingerprint,
    keep_ceilings,
    load_ceilings,
)
from kvbench.report.redaction import _this_machine, redacted_text

CPU = {"device": "cpu", "device_name": "Some CPU", "torch": "2.13.0", "threads": 2, "usable_cores": 2}
GPU = {"device": "cuda:0", "device_name": "Some GPU", "torch": "2.13.0", "driver": "1", "power_limit_w": 700.0}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def ceilings(environment: dict[str, Any], *, launch_s: float = 1e-6) -> Ceilings:
    return Ceilings(
        fingerprint=fingerprint(environment),
        measured_at="2026-11-25T08:00:00+00:00",
        device_name=environment["device_name"],
        read=(
            ReadRate(set_bytes=2**20, bytes_per_s=30e9),
            ReadRate(set_bytes=2**24, bytes_per_s=10e9),
            ReadRate(set_bytes=2**28, bytes_per_s=12e9),
        ),
        matrix=(
            MatrixRate(dtype="float32", rows=1, width=2048, flops_per_s=5e9),
            MatrixRate(dtype="float32", rows=512, width=2048, flops_per_s=80e9),
        ),
        launch_s=launch_s,
    )


class TestKeptCeilings:
    def test_are_found_again_on_the_same_machine_and_replaced_by_newer_ones(self) -> None:
        assert load_ceilings(CPU) is None
        assert keep_ceilings(ceilings(CPU)) == keep_ceilings(ceilings(CPU, launch_s=2e-6))
        assert ceilings(CPU, launch_s=2e-6) == load_ceilings(CPU)

    @pytest.mark.parametrize("changed", [{"threads": 4}, {"torch": "2.12.0"}, {"device_name": "Other"}])
    def test_are_not_those_of_a_machine_that_differs(self, changed: dict[str, Any]) -> None:
        keep_ceilings(ceilings(CPU))
        assert load_ceilings(CPU | changed) is None

    def test_of_a_gpu_do_not_depend_on_the_host_but_on_its_power_cap(self) -> None:
        keep_ceilings(ceilings(GPU))
        assert load_ceilings(GPU | {"threads": 64, "usable_cores": 8}) is not None
        assert load_ceilings(GPU | {"power_limit_w": 350.0}) is None

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"fingerprint": "x"}'])
    def test_that_cannot_be_read_count_as_not_measured(self, content: bytes) -> None:
        keep_ceilings(ceilings(CPU)).write_bytes(content)
        assert load_ceilings(CPU) is None

    def test_that_were_copied_from_another_machine_count_as_not_measured(self) -> None:
        keep_ceilings(ceilings(GPU)).rename(ceilings_file(fingerprint(CPU)))
        assert load_ceilings(CPU) is None

    def test_with_a_rate_of_nothing_count_as_not_measured(self) -> None:
        """They once ended a finished run with a division by zero."""
        file = keep_ceilings(ceilings(CPU))
        file.write_text(file.read_text().replace("10000000000.0", "0.0"))
        assert load_ceilings(CPU) is None

    def test_leave_no_part_behind(self) -> None:
        assert [keep_ceilings(ceilings(CPU))] == list(ceilings_file("x").parent.iterdir())

    def test_that_cannot_be_written_say_where_they_can(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("in the way")
        with pytest.raises(RecordError, match=r"cannot be written .*; set XDG_CACHE_HOME to a folder that can"):
            keep_ceilings(ceilings(CPU))


class TestRates:
    @pytest.mark.parametrize(
        ("working_set", "rate"), [(1, 30e9), (2**20, 30e9), (2**24 - 1, 30e9), (2**24, 12e9), (2**40, 12e9)]
    )
    def test_of_reading_never_rise_with_the_working_set(self, working_set: int, rate: float) -> None:
        """A larger set that was read faster shows that a smaller one can be."""
        assert rate == ceilings(CPU).bytes_per_s(working_set)

    def test_of_products_are_the_best_of_their_type(self) -> None:
        assert 80e9 == ceilings(CPU).flops_per_s("float32")
        assert ceilings(CPU).flops_per_s("bfloat16") is None

    def test_that_were_not_measured_are_unknown(self) -> None:
        assert ceilings(CPU).model_copy(update={"read": ()}).bytes_per_s(1) is None


def test_nobody_s_home_is_no_place_for_them_and_no_fault_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nobody)  # no HOME, and a user without an account, as in containers
    assert load_ceilings(CPU) is None
    with pytest.raises(RecordError, match="set XDG_CACHE_HOME"):
        keep_ceilings(ceilings(CPU))
    _this_machine.cache_clear()
    assert "[path]" == redacted_text("/some/where")
