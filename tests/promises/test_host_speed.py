"""A host that changes its speed is told of with its figures, and no cause is named that this explains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvbench.records.ceilings import Ceilings, MatrixRate, ReadRate, fingerprint, keep_ceilings
from kvbench.records.evidence import HostCheck
from kvbench.records.store import find_runs
from kvbench.running.scripted import HOST, environment_of_script

Run = Callable[..., tuple[int, str, str]]

# Both modes wait 12 ms for launches; with ceilings a cached step reads 5 GB at 4.41 TB/s.
LAUNCHING = (
    *("model=scripted", "launch=inline", "report=false", "stream.interval=0", "workload.prompt_tokens=100"),
    *("workload.new_tokens=8", "model.launch_s=0.012", "model.cached_step_s=0.002", "model.nocache_step_s=0.002"),
    *("model.parameters=2506172416", "attention=math"),
)


@pytest.fixture
def measured(run_kvbench: Run, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the program; the record, with what the terminal said under `out`."""

    def run(*overrides: str) -> dict[str, Any]:
        code, out, _ = run_kvbench(*LAUNCHING, *overrides)
        assert 0 == code  # what the host does is a warning
        (found,) = find_runs([tmp_path / "results"]).runs
        record: dict[str, Any] = json.loads(found.record.model_dump_json())
        return {**record, "out": " ".join(out.split())}

    return run


Measured = Callable[..., dict[str, Any]]


def keep(host: HostCheck | None) -> None:
    """Ceilings of the scripted machine, and how fast its host was when they were measured."""
    keep_ceilings(
        Ceilings(
            fingerprint=fingerprint(environment_of_script()),
            measured_at="2026-01-01T00:00:00+00:00",
            device_name="scripted",
            read=(ReadRate(set_bytes=2**30, bytes_per_s=4.41e12),),
            matrix=(MatrixRate(dtype="float16", rows=4096, width=4096, flops_per_s=7e14),),
            launch_s=4e-6,
            host=host,
        )
    )


def warned(record: dict[str, Any]) -> dict[str, str]:
    return {each["code"]: each["detail"] for each in record["warnings"] if each["code"].startswith("host_")}


def said(record: dict[str, Any]) -> dict[str, str]:
    return {each["code"]: each["text"] for each in record["comparison"]["diagnosis"]}


class TestAHostThatKeepsItsSpeed:
    def test_is_in_the_record_and_nowhere_else(self, measured: Measured) -> None:
        record = measured()
        figures = {"launch_s": 4e-6, "product_s": 0.5e-3, "read_s": 2e-3}
        assert {"before": figures, "after": figures} == record["host_checks"]
        assert {} == warned(record)
        assert {"launch"} == {"launch", "host_speed"} & set(said(record))

    @pytest.mark.parametrize("drift", [0.19, -0.16])
    def test_may_move_a_little(self, measured: Measured, drift: float) -> None:
        keep(HOST)
        record = measured(f"model.host_drift={drift}")
        assert {} == warned(record)
        assert {"launch", "reading"} == {"launch", "reading", "host_speed"} & set(said(record))


class TestAHostThatMoves:
    def test_warns_with_both_figures_and_what_to_do(self, measured: Measured) -> None:
        record = measured("model.host_drift=0.5")
        detail = (
            "a small operation took 4.00 µs before the blocks and 6.00 µs after them (+50%), so the host changed its"
            " speed during the run: close other programs, or measure again later"
        )
        assert {"host_moved": detail} == warned(record)
        assert "host_moved: a small operation took 4.00 µs before the blocks" in record["out"]

    @pytest.mark.parametrize("drift", [0.21, -0.21])
    def test_takes_the_place_of_the_causes_that_it_may_be_all_of(self, measured: Measured, drift: float) -> None:
        keep(HOST)
        sentences = said(measured(f"model.host_drift={drift}"))
        assert {"host_speed"} == {"launch", "reading", "host_speed"} & set(sentences)
        assert sentences["host_speed"].endswith(
            "during the run. That alone may explain slow steps, so no cause is named that rests on launches or on"
            " reading."
        )

    def test_explains_dear_first_visits_only_when_it_moved_as_much(self, measured: Measured) -> None:
        dear = ("attention=auto", "model.unseen_length_s=0.062")
        assert "first_visit" in said(measured(*dear, "model.host_drift=0.4"))

    def test_explains_them_then(self, measured: Measured) -> None:
        dear = ("attention=auto", "model.unseen_length_s=0.062")
        assert "first_visit" not in said(measured(*dear, "model.host_drift=0.6"))


class TestAHostThatIsUnlikeTheKeptOne:
    def test_is_slow_today(self, measured: Measured) -> None:
        keep(HOST.model_copy(update={"read_s": 1e-3}))
        record = measured()
        expected = (
            "a read of 32 MiB took 2.00 ms, and 1.00 ms when `kvbench doctor --ceilings` measured this machine"
            " (+100%), so the host is slower than it was then: close other programs, or measure again later"
        )
        assert {"host_slow": expected} == warned(record)
        assert {"host_speed"} == {"launch", "reading", "host_speed"} & set(said(record))

    def test_or_fast_which_explains_no_slow_step(self, measured: Measured) -> None:
        keep(HOST.model_copy(update={"launch_s": 8e-6}))
        record = measured()
        (detail,) = warned(record).values()
        assert detail.endswith(
            "took 4.00 µs, and 8.00 µs when `kvbench doctor --ceilings` measured this machine (-50%), so the host is"
            " faster than it was then: run `kvbench doctor --ceilings` again, the kept limits are out of date"
        )
        assert {"launch", "reading"} == {"launch", "reading", "host_speed"} & set(said(record))

    def test_is_not_known_of_limits_that_an_earlier_version_kept(self, measured: Measured) -> None:
        keep(None)
        record = measured()
        assert {} == warned(record)
        assert "an earlier version measured these ceilings and not this" == record["null_reasons"]["/ceilings/host"]


def test_a_run_that_ends_before_its_blocks_do_says_why_there_is_no_second_check(
    run_kvbench: Run, tmp_path: Path
) -> None:
    quick = ("model=scripted", "launch=inline", "report=false", "stream.interval=0", "workload.new_tokens=4")
    assert 1 == run_kvbench(*quick, "measure.warmup=0", "model.fail_at_step=200")[0]
    (found,) = find_runs([tmp_path / "results"]).runs
    assert found.record.host_checks is not None
    assert (HOST, None) == (found.record.host_checks.before, found.record.host_checks.after)
    assert "the run ended before its blocks did" == found.record.null_reasons["/host_checks/after"]
