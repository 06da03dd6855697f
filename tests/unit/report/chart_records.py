"""Records and series for the tests of the charts."""

import json

from kvbench.records.run_record import RunRecord
from kvbench.report.charts.figures import looks
from kvbench.report.charts.series import StepSeries, block_series

from .records import MEBIBYTE, SPEEDUP, comparison, estimate, two_arms

LOOKS = looks(["nocache", "cached (dynamic)"])


def changed(record, **changes):
    """The record with fields at dotted paths replaced, such as `arms.0.limit.flops`."""
    data = json.loads(record.model_dump_json())
    for path, value in changes.items():
        *way, last = path.split("__")
        place = data
        for name in way:
            place = place[int(name) if name.isdigit() else name]
        place[int(last) if last.isdigit() else last] = value
    return RunRecord.model_validate_json(json.dumps(data))


def traces(chart, **wanted):
    return [each for each in chart.figure["data"] if all(each.get(name) == value for name, value in wanted.items())]


def hollow(chart):
    return [each for each in chart.figure["data"] if str(each.get("marker", {}).get("symbol", "")).endswith("-open")]


def series(number, *, first=129, latency=(0.001, 0.002)):
    lengths = list(range(first, first + len(latency)))
    elapsed = [sum(latency[: index + 1]) for index in range(len(latency))]
    quantiles = {0.0: min(latency), 0.5: sum(latency) / len(latency), 1.0: max(latency)}
    return StepSeries(
        arm=number,
        steps=len(latency),
        context_length=lengths,
        median_s=list(latency),
        elapsed_s=elapsed,
        point_context_length=lengths,
        point_s=list(latency),
        quantile=list(quantiles),
        quantile_s=list(quantiles.values()),
    )


def mean(value, spread=0.1):
    return {
        "estimator": "mean over blocks, Student-t interval",
        "value": value,
        "ci_low": value - spread * abs(value),
        "ci_high": value + spread * abs(value),
        "level": 0.95,
        "n": 8,
    }


def law(number, launch_s, per_token_s, *, order="linear"):
    growth = SPEEDUP | {"value": 2.0, "ci_low": 1.9, "ci_high": 2.1}
    return {
        "arm": number,
        "launch_s": mean(launch_s),
        "per_token_s": mean(per_token_s),
        "per_token2_s": mean(0.0) | {"ci_low": -1e-12, "ci_high": 1e-12},
        "growth": growth,
        "exponent": 0.5,
        "order": order,
        "worst_error": 0.01,
    }


BREAK_EVEN = {
    "baseline_arm": 0,
    "candidate_arm": 1,
    "context_length": 600.0,
    "ci_low": 580.0,
    "ci_high": 630.0,
    "level": 0.95,
    "detail": "from about 600 tokens on the candidate's step is the faster one (interval 580 to 630)",
}


def grown(**changes):
    """Recompute takes 1 ms and 5 µs a token, the cache 4 ms: steps even at 600 tokens, totals later."""
    itl = {(0, 64): 1.32e-3, (0, 2048): 11.24e-3, (1, 64): 4e-3, (1, 2048): 4e-3}
    return two_arms(
        prompt=64,
        growth={
            "shortest": 64.0,
            "longest": 2048.0,
            "points": [
                {"arm": number, "context_length": float(length), "itl_s": estimate(value)}
                for (number, length), value in itl.items()
            ],
            "laws": [law(0, 1e-3, 5e-6), law(1, 4e-3, 0.0, order="constant")],
            "totals": [
                {"arm": number, "new_tokens": count, "seconds": mean(seconds), "beyond_range": count > 2000}
                for number, count, seconds in ((0, 16, 0.0204), (1, 16, 0.06), (0, 4096, 47.2), (1, 4096, 16.4))
            ],
            "break_evens": [BREAK_EVEN],
            "decodes": [
                {
                    "arm": 0,
                    "prompt_tokens": 64,
                    "new_tokens": 4,
                    "first_s": 0.006,
                    "second_s": 0.004,
                    "predicted_s": 0.004,
                    "error": 0.0,
                    "first_step_s": [2e-3, 2e-3, 2e-3],
                    "second_step_s": [1.3e-3, 1.3e-3, 1.4e-3],
                }
            ],
            **changes,
        },
    )


def block(index, *, slow=1.0, before=None, after=None, **changes):
    visits = [
        {"arm": number, "lane": lane, "decode_s": seconds, "new_tokens": 48, "sequences": 1}
        for lane in ("throughput", "steps")
        for number, seconds in ((0, 0.2 * slow if lane == "throughput" else 9.0), (1, 0.1))
    ]
    return {
        "index": index,
        "visits": visits,
        "elapsed_s": 1.0,
        "device_before": before,
        "device_after": after,
        "throttled": [],
        "repeats": None,
        **changes,
    }


def reading(clock=1980, power=300.0, temperature=50, limits=()):
    return {
        "sm_clock_mhz": clock,
        "power_w": power,
        "temperature_c": temperature,
        "limits": list(limits),
        "limited_s": None,
    }


NO_BLOCKS = block_series([], [])

CEILINGS = {
    "fingerprint": "f",
    "measured_at": "2026-06-01",
    "device_name": "Some GPU",
    "read": [{"set_bytes": 2**20, "bytes_per_s": 1e11}],
    "matrix": [{"dtype": "float32", "rows": 64, "width": 4096, "flops_per_s": 1e13}],
    "launch_s": 1e-6,
}


def under_a_roof():
    limits = {f"arms__{number}__limit__weight_bytes": 40_000_000 for number in (0, 1)}
    limits |= {f"arms__{number}__limit__kv_bytes": 10_000_000 * number for number in (0, 1)}
    return changed(
        two_arms(), ceilings=CEILINGS, arms__0__limit__flops=20_000_000_000, arms__1__limit__flops=100_000_000,
        arms__1__limit__prefill_flops=20_000_000_000, arms__1__limit__prefill_bytes=40_000_000, **limits,
    )  # fmt: skip


RECONCILIATION = {
    "weights_bytes": 500 * MEBIBYTE,
    "kv_cache_bytes": 20 * MEBIBYTE,
    "step_peak_bytes": 30 * MEBIBYTE,
    "allocator_slack_bytes": 50 * MEBIBYTE,
    "device_context_bytes": 300 * MEBIBYTE,
    "kernels_bytes": 90 * MEBIBYTE,
    "elsewhere_bytes": 20 * MEBIBYTE,
    "device_used_bytes": 1000 * MEBIBYTE,
    "unexplained_bytes": -10 * MEBIBYTE,
}


def agreeing(differences, *, flips=(), **changes):
    steps = [
        {
            "step": step,
            "max_abs_logit_diff": value,
            "max_rel_logit_diff": value,
            "kl": 0.0,
            "flips": int(step in flips),
            "top2_margin": 0.1,
        }
        for step, value in enumerate(differences)
    ]
    found = comparison()["agreement"] | {"noise_rel": 2e-3, "allowed_rel": 1e-2, "by_step": steps, **changes}
    pair = comparison(agreement=found)
    return two_arms(pair=pair)
