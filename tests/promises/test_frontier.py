"""A frontier run finds what fits, survives what does not, and says which is which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kvbench.records.run_record import RunRecord
from kvbench.records.scaling import FrontierEdge
from kvbench.records.store import find_runs

Run = Callable[..., tuple[int, str, str]]
# Weights of 100,000 bytes, 4 bytes of cache and 4 of work a token: a million holds 900,000 bytes of tokens.
SCRIPTED = (
    "model=scripted", "experiment=frontier", "model.memory_bytes=1000000", "model.parameters=50000",
    "model.step_bytes_per_token=4", "report=false",
)  # fmt: skip
# 8 bytes a token but for the last two, which are not submitted again: 1,251 tokens fit.
SMALL = (
    "model=scripted", "experiment=frontier", "model.memory_bytes=10000", "model.step_bytes_per_token=4", "mode=cached",
    "frontier.axes=[context]", "workload.prompt_tokens=1200", "report=false",
)  # fmt: skip


def only(tmp_path: Path) -> RunRecord:
    (run,) = find_runs([tmp_path / "results"]).runs
    return run.record


def edges(record: RunRecord) -> tuple[FrontierEdge, ...]:
    assert record.frontier is not None
    return record.frontier.edges


class TestAScriptedMemory:
    def test_has_its_exact_edges_found_for_every_arm_and_axis(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, said, _ = run_kvbench(*SCRIPTED, "frontier.resolution=0", "launch=inline")
        record = only(tmp_path)
        assert (0, "ok", 1_000_000) == (code, record.status, record.frontier and record.frontier.limit_bytes)
        # nocache: 900,000 / 4, and / 4,096 a sequence; cached: (900,000 + 8) / 8, and / 8,184 a sequence.
        assert [
            (0, "context", 1, 225_000, 225_001),
            (1, "context", 1, 112_501, 112_502),
            (0, "batch", 1024, 219, 220),
            (1, "batch", 1024, 109, 110),
        ] == [(edge.arm, edge.axis, edge.fixed, edge.found, edge.found_above) for edge in edges(record)]
        assert "nocache, context 225,000: fits, 977 KiB" in said
        assert "cached, batch 110: out of memory" in said

    def test_is_told_in_sentences_by_the_run_and_by_show(self, run_kvbench: Run, tmp_path: Path) -> None:
        _, said, _ = run_kvbench(*SCRIPTED, "frontier.resolution=0", "launch=inline")
        _, shown, _ = run_kvbench("show", str(tmp_path / "results"))
        sentence = (
            "At batch 1 nocache fits 225,000 tokens of context and cached (dynamic) 112,501: the cache costs 50.0 % of"
            " the context."
        )
        for text in (said, shown):
            assert sentence in " ".join(text.split())

    def test_holds_the_prediction_against_what_was_found(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPTED, "launch=inline")
        for edge in edges(only(tmp_path)):
            assert edge.predicted is not None
            assert edge.found is not None
            assert (edge.predicted - edge.found) / edge.found == edge.error

    def test_gives_every_null_its_reason(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SMALL, "launch=inline")
        reasons = only(tmp_path).null_reasons
        assert "not known" not in reasons.values()
        assert "a frontier run tries sizes and times nothing" == reasons["/arms/0/itl_s/value"]
        assert "there is no prediction" == reasons["/frontier/edges/0/error"]

    def test_that_holds_nothing_is_a_finding(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, said, _ = run_kvbench(*SMALL, "model.memory_bytes=8", "launch=inline")
        (edge,) = edges(only(tmp_path))
        assert (0, None, 3) == (code, edge.found, edge.found_above)
        assert "nothing fits: 3 runs out of memory" == edge.detail
        assert "has no size that fits" in said


class TestALimitThatIsNotMemory:
    def test_is_named_and_gives_no_error(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, _ = run_kvbench(*SMALL, "frontier.max_context=1000", "launch=inline")
        (edge,) = edges(only(tmp_path))
        assert (0, 1000, None, None) == (code, edge.found, edge.found_above, edge.error)
        assert "frontier.max_context ends the search" == edge.detail

    def test_is_the_number_of_tries_where_nothing_else_ends_it(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, _ = run_kvbench(*SMALL, "model.memory_bytes=null", "launch=inline")
        record = only(tmp_path)
        assert (3, "invalid") == (code, record.status)
        assert "ended after 48 tries, before there was an edge" == edges(record)[0].detail


@pytest.mark.parametrize(("failure", "outcome"), [("crash", "crashed"), ("hang", "timeout"), ("error", "oom")])
def test_a_worker_that_dies_of_a_try_is_replaced_and_the_search_goes_on(
    failure: str, outcome: str, run_kvbench: Run, tmp_path: Path
) -> None:
    code, _, _ = run_kvbench(*SMALL, f"model.fail_with={failure}", "frontier.timeout_s=1")
    record = only(tmp_path)
    (edge,) = edges(record)
    assert (0, "ok", 1228, 1289) == (code, record.status, edge.found, edge.found_above)
    # 2.5 % below the workload's own size, then strides of 5 and 10 %, then halves.
    assert [(1170, "fits"), (1228, "fits"), (1350, outcome), (1289, outcome)] == [
        (each.size, each.outcome) for each in edge.tries
    ]


class TestBadInput:
    @pytest.mark.parametrize(
        ("override", "said"),
        [
            ("frontier.axes=[width]", "frontier.axes=['width']: not known"),
            ("frontier.axes=[]", "frontier.axes=[]: not known"),
            ("workload.prompt_tokens=null", "needs workload.prompt_tokens"),
            ("workload.prompt_tokens=2", "at least workload.new_tokens=3"),
            ("mode=interrupted", "not with an interrupted mode"),
            ("audit=true", "audit=true: has no effect with frontier.axes"),
            ("measure.timeout_s=9", "where frontier.timeout_s ends a single try"),
            ("frontier.memory_gib=0", "must be above 0"),
        ],
    )
    def test_is_one_line_with_the_key(self, override: str, said: str, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, error = run_kvbench("model=scripted", "experiment=frontier", override)
        assert (2, 1) == (code, len(error.splitlines())), error
        assert said in error
        assert not (tmp_path / "results").exists()

    def test_includes_a_real_model_that_nothing_could_kill(self, run_kvbench: Run) -> None:
        code, _, error = run_kvbench("experiment=frontier", "launch=inline")
        assert (2, True) == (code, "launch=inline: not with frontier.axes" in error), error


TINY = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


@pytest.mark.slow  # the search itself is shown by scripted models above; this is its arithmetic on real memory
@pytest.mark.parametrize("mode", ["cached", "nocache"])
def test_a_real_model_on_the_cpu_is_held_to_its_budget(run_kvbench: Run, tmp_path: Path, mode: str) -> None:
    """Its edges lie within the budget, near what was predicted: +16 and +26 % were seen."""
    folder = tmp_path / "conf" / "model"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(
        f"name: tiny\nweights: random\ndtype: float32\narchitecture: {json.dumps(TINY)}\n", encoding="utf-8"
    )
    search = (
        "frontier.memory_gib=1.0",
        "frontier.axes=[batch]",
        "frontier.resolution=0.6",  # each size that does not fit costs a worker
        f"mode={mode}",
    )
    code, _, complaint = run_kvbench(
        *("--config-dir", str(tmp_path / "conf"), "model=tiny", "experiment=frontier", "device=cpu", "report=false"),
        *(*search, "workload.prompt_tokens=32", "workload.new_tokens=2", "threads=1"),
    )
    assert 0 == code, complaint
    for edge in edges(only(tmp_path)):
        assert edge.error is not None
        assert abs(edge.error) < 0.6
        assert all((each.peak_bytes or 0) <= 2**30 for each in edge.tries if each.outcome == "fits")
