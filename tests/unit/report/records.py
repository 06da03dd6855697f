"""Records and run folders made by hand, with figures that can be checked by eye."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from kvbench.records.run_record import RunRecord
from kvbench.records.store import StoredRun

HOSTILE = (
    "</script><script>alert(1)</script>",
    "\x1b[31mred\x1b[0m\x07\x9b2J",
    "[bold]markup[/bold] [/] [link=x]",
    '"><img src=x onerror=alert(2)>',
    "\u202eright to left\u2066",
    "line\u2028separator & <!--",
    "=1+1|pipe|`tick`",
)
BLOCKS = 8
SPEEDUP = {
    "estimator": "geometric mean of per-block ratios",
    "value": 3.42,
    "ci_low": 3.38,
    "ci_high": 3.47,
    "level": 0.95,
    "n_blocks": BLOCKS,
}
END_TO_END = SPEEDUP | {"value": 2.91, "ci_low": 2.88, "ci_high": 2.95}
MEBIBYTE = 2**20


def estimate(value: float, spread: float = 0.01) -> dict[str, Any]:
    return {
        "estimator": "median over blocks",
        "value": value,
        "ci_low": value * (1 - spread),
        "ci_high": value * (1 + spread),
        "level": 0.992,
        "n": BLOCKS,
    }


def arm(
    kind: str = "nocache", *, prompt: int = 128, new: int = 48, text: str = "a b c", **changes: Any
) -> dict[str, Any]:
    """An arm whose cached step takes 1 ms and whose recomputed step 3.42 ms."""
    cached = kind == "cached"
    itl_s = 0.001 if cached else 0.00342
    token_bytes = 512 if cached else 0
    held = prompt + new - 1
    return {
        "mode": kind,
        "cache": "dynamic" if cached else "none",
        "engine": "eager",
        "attention": "auto",
        "cold": {"ttft_s": 0.05, "itl_s": itl_s * 3, "load_s": 0.4, "compile_s": None},
        "ttft_s": estimate(0.0125),
        "itl_s": estimate(itl_s),
        "decode_tokens_per_s": estimate(1 / itl_s),
        "end_to_end_tokens_per_s": estimate(0.8 / itl_s),
        "itl_percentiles_s": {"p50": itl_s, "p90": itl_s * 1.2, "p95": itl_s * 1.4, "p99": None, "n_tokens": 376},
        "step_lane_cost": 0.012,
        "memory": {
            "weights_bytes": 8 * MEBIBYTE,
            "kv_cache_bytes": token_bytes * held,
            "kv_cache_predicted_bytes": token_bytes * held,
            "kv_cache_storage_bytes": token_bytes * held,
            "peak_allocated_bytes": None,
            "peak_reserved_bytes": None,
            "device_used_bytes": None,
            "process_rss_bytes": 700 * MEBIBYTE,
        },
        "memory_by_context": [
            {"context_length": length, "kv_cache_bytes": token_bytes * length, "allocated_bytes": None}
            for length in range(prompt, prompt + new)
        ],
        "energy": {"joules_per_token": None, "idle_watts": None, "window_s": None},
        "limit": {"floor_s": None, "bound": None, "mbu": None, "mfu": None, "launch_s": None},
        "tokens": [list(range(new))],
        "texts": [text],
        "finish_reason": ["length"],
        "proof": {"steps_checked": 94, "violations": 0},
        **changes,
    }


def comparison(**changes: Any) -> dict[str, Any]:
    return {
        "baseline_arm": 0,
        "candidate_arm": 1,
        "speedup": SPEEDUP,
        "end_to_end_speedup": END_TO_END,
        "extra_memory_bytes": 89600,
        "break_even_context": None,
        "agreement": {
            "verdict": "EQUAL_WITHIN_ROUNDING",
            "first_divergence": None,
            "top2_margin": None,
            "max_abs_logit_diff": 3.1e-6,
            "kl": 1.2e-12,
            "noise_abs": 2.4e-6,
            "steps": 16,
            "detail": "largest relative logit difference 1.1e-06 over 16 steps on one token path",
        },
        "verdict": "FASTER",
        "reasons": [],
        **changes,
    }


def two_arms(*, prompt: int = 128, new: int = 48, **changes: Any) -> RunRecord:
    """A valid run of both modes."""
    pair = changes.pop("pair", comparison())
    data: dict[str, Any] = {
        "run_id": "20260601-120000-abcd",
        "created_at": "2026-06-01T12:00:00+00:00",
        "kvbench_version": "0.1.0",
        "status": "ok",
        "status_reason": "measured, and every check passed",
        "config": {
            "model": {"name": "embedded", "dtype": "auto"},
            "mode": "both",
            "workload": {"prompt_tokens": prompt, "new_tokens": new, "batch_size": 1},
            "measure": {"blocks": BLOCKS},
        },
        "keys": {"compare_key": "c" * 64, "resume_key": "r" * 64},
        "environment": {
            "python": "3.11.9",
            "torch": "2.13.0",
            "device_name": "Some CPU",
            "cuda": None,
            "git_commit": "0123abc",
            "git_dirty": False,
            "worker": {"pid": 42, "started_at": "2026-06-01T11:59:58+00:00"},
        },
        "model": {"name": "embedded", "source": "embedded", "parameters": 2_100_000, "dtype": "float32"},
        "workload": {"prompt_tokens": [prompt], "new_tokens": new, "batch_size": 1, "prompt_sha256": "p" * 64},
        "shapes": {"prefill": {"logits": {"shape": [1, 512], "dimensions": ["batch", "vocabulary"], "bytes": 2048}}},
        "arms": [arm("nocache", prompt=prompt, new=new), arm("cached", prompt=prompt, new=new)],
        "stopping": {"rule": "fixed", "reason": "8 blocks measured"},
        "comparisons": [pair],
        "comparison": pair,
        "checks": [
            {"name": "mode_proof", "passed": True, "detail": "188 steps submitted what they promise", "advice": ""},
            {"name": "token_count", "passed": True, "detail": "exactly 48 new tokens", "advice": ""},
        ],
        "warnings": [{"code": "host_load", "detail": "the load average was 3.1 on 4 cores"}],
        "memory_timeline": [
            {
                "elapsed_s": index * 0.25,
                "phase": "loading" if index < 8 else "blocks",
                "process_rss_bytes": (300 + 40 * min(index, 10)) * MEBIBYTE,
                "device_used_bytes": None,
            }
            for index in range(40)
        ],
        "null_reasons": {
            "/arms/0/energy/joules_per_token": "energy needs a window of seconds of its own",
            "/arms/1/energy/joules_per_token": "energy needs a window of seconds of its own",
            "/arms/0/memory/peak_allocated_bytes": "torch keeps no allocator statistics on cpu",
            "/arms/1/memory/peak_allocated_bytes": "torch keeps no allocator statistics on cpu",
        },
        **changes,
    }
    return RunRecord.model_validate_json(json.dumps(data))


def one_arm(**changes: Any) -> RunRecord:
    """A valid run of the cached mode alone."""
    return two_arms(**{"arms": [arm("cached")], "comparisons": [], "comparison": None, **changes})


def invalid() -> RunRecord:
    """A run that was measured and broke a check."""
    reason = "mode_proof: 3 steps of cached submitted something else"
    failed = {"name": "mode_proof", "passed": False, "detail": "3 steps of cached submitted something else"}
    broken = comparison(verdict="INVALID", reasons=[reason])
    return two_arms(
        run_id="invalid-run",
        status="invalid",
        status_reason=reason,
        checks=[failed | {"advice": "these times are of another computation"}],
        comparisons=[broken],
        comparison=broken,
    )


def failed(status: str = "oom", reason: str = "the device ran out of memory at 4.2 GiB") -> RunRecord:
    """A run that ended before anything was known of its model."""
    return two_arms(
        run_id=f"{status}-run",
        status=status,
        status_reason=reason,
        model=None,
        workload=None,
        shapes=None,
        arms=[],
        stopping=None,
        comparisons=[],
        comparison=None,
        checks=[],
        warnings=[],
        memory_timeline=[],
        null_reasons={"/model": "the run ended before the model was known"},
    )


def interrupted() -> RunRecord:
    """A run stopped with Ctrl-C after three blocks."""
    early = comparison(verdict="INVALID", reasons=["interrupted: stopped after 3 blocks"])
    return two_arms(
        run_id="interrupted-run",
        status="interrupted",
        status_reason="stopped after 3 blocks",
        checks=[],
        comparisons=[early],
        comparison=early,
    )


def hostile() -> RunRecord:
    """A valid run in which every string that a stranger may write is an attack."""
    attack = " ".join(HOSTILE)
    record = two_arms(run_id="hostile-run")
    data = json.loads(record.model_dump_json())
    data["config"]["model"]["name"] = attack
    data["config"][attack] = attack
    data["run_id"] = data["kvbench_version"] = attack
    data["shapes"] = {
        attack: {
            "logits": {"shape": [1, 2], "dimensions": [attack], "dtype": attack, "bytes": 8},
            "cache_layers": [{"kind": attack, "tensors": {attack: {"shape": [1], "dtype": attack}}}],
            "loss_reason": attack,
        }
    }
    data["model"]["name"] = attack
    data["environment"]["device_name"] = attack
    data["warnings"] = [{"code": attack, "detail": attack}]
    data["checks"] = [{"name": attack, "passed": False, "detail": attack, "advice": attack}]
    data["null_reasons"] = {"/arms/0/energy/joules_per_token": attack}
    data["memory_timeline"][0]["phase"] = attack
    for each in data["arms"]:
        each["texts"] = [attack]
        each["attention"] = attack
    return RunRecord.model_validate_json(json.dumps(data))


def write_run(record: RunRecord, folder: Path, *, prompts: Sequence[str] = ("What is a KV cache?",)) -> StoredRun:
    """A run folder as a measurement leaves it: record, prompts, blocks and steps."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(record.model_dump_json(indent=1))
    (folder / "prompts.jsonl").write_text(
        "".join(json.dumps({"text": text, "token_ids": [1, 2]}) + "\n" for text in prompts)
    )
    if any(each.texts for each in record.arms):
        lines = [json.dumps(_block(record, index)) for index in range(BLOCKS)]
        (folder / "blocks.jsonl").write_text("\n".join(lines) + "\n")
        pyarrow.parquet.write_table(_steps(record), folder / "steps.parquet")
    return StoredRun(record, folder)


def step_s(record: RunRecord, arm: int, block: int) -> float:
    """The mean step of an arm in a block: a percent of noise around its ITL."""
    return (record.arms[arm].itl_s.value or 0.0) * (1 + 0.01 * ((block * 3) % 5 - 2))


def _block(record: RunRecord, index: int) -> dict[str, Any]:
    assert record.workload is not None
    new = record.workload.new_tokens
    return {
        "index": index,
        "order": [0, 1],
        "started_at": record.created_at,
        "elapsed_s": 1.0,
        "visits": [
            {
                "arm": number,
                "batch": 0,
                "lane": lane,
                "ttft_s": 0.0125,
                "decode_s": step_s(record, number, index) * (new - 1),
                "steps": new - 1,
                "new_tokens": new,
                "sequences": 1,
            }
            for lane in ("throughput", "steps")
            for number in range(len(record.arms))
        ],
    }


def _steps(record: RunRecord) -> pyarrow.Table:
    assert record.workload is not None
    rows = [
        {
            "block": block,
            "arm": number,
            "batch": 0,
            "prompt": 0,
            "step": step,
            "context_length": record.workload.prompt_tokens[0] + step,
            "latency_s": step_s(record, number, block) * (1 + 0.003 * step * (number == 0)),
        }
        for block in range(BLOCKS)
        for number in range(len(record.arms))
        for step in range(1, record.workload.new_tokens)
    ]
    return pyarrow.Table.from_pylist(rows)


def unmeasured_arm(kind: str) -> dict[str, Any]:
    """An arm whose run ended before its first visit: every figure is unknown."""
    nothing = {"estimator": "median over blocks", "value": None, "n": 0}
    data = arm(kind)
    unknown = {name: dict.fromkeys(data[name]) for name in ("cold", "memory", "energy", "limit")}
    rates = dict.fromkeys(("ttft_s", "itl_s", "decode_tokens_per_s", "end_to_end_tokens_per_s"), nothing)
    percentiles = dict.fromkeys(("p50", "p90", "p95", "p99")) | {"n_tokens": 0}
    produced: dict[str, Any] = {name: [] for name in ("memory_by_context", "tokens", "texts", "finish_reason")}
    return {**data, **unknown, **rates, **produced, "itl_percentiles_s": percentiles, "step_lane_cost": None}


def interrupted_early() -> RunRecord:
    """A run stopped with Ctrl-C before its first block."""
    ratio = SPEEDUP | dict.fromkeys(("value", "ci_low", "ci_high", "level")) | {"n_blocks": 0}
    agreement = dict.fromkeys(("verdict", "first_divergence", "top2_margin", "max_abs_logit_diff", "kl", "noise_abs"))
    early = comparison(
        speedup=ratio,
        end_to_end_speedup=ratio,
        extra_memory_bytes=None,
        agreement=agreement | {"steps": 0, "detail": "not checked"},
        verdict="INVALID",
        reasons=["interrupted: stopped by Ctrl-C"],
    )
    return two_arms(
        run_id="early-run",
        status="interrupted",
        status_reason="stopped by Ctrl-C",
        arms=[unmeasured_arm("nocache"), unmeasured_arm("cached")],
        comparisons=[early],
        comparison=early,
        checks=[],
        memory_timeline=[],
        stopping=None,
    )
