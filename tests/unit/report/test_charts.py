import json
import math
import re
from pathlib import Path

import plotly.graph_objects as go
import pytest

from kvbench.records.schema import RunRecord
from kvbench.report.agreement_charts import agreement
from kvbench.report.arms import arm_names
from kvbench.report.charts import run_charts
from kvbench.report.device_charts import device_timeline
from kvbench.report.figures import label, log_axis, rule, stacked
from kvbench.report.frontier_charts import frontier
from kvbench.report.growth import growth_sentences, law_s
from kvbench.report.growth_charts import cumulative_by_law, latency_by_law, total_s
from kvbench.report.limit_charts import roofline, step_time
from kvbench.report.memory_charts import memory_parts, memory_stack
from kvbench.report.palette import DARK, LIGHT, NEUTRAL, WARNING, looks
from kvbench.report.series import StepSeries, block_series
from kvbench.report.speed_charts import speed, speedup
from kvbench.report.step_charts import cumulative_time, latency_by_context

from .records import HOSTILE, MEBIBYTE, SPEEDUP, arm, comparison, estimate, failed, hostile, invalid, one_arm, two_arms

LOOKS = looks(["nocache", "cached (dynamic)"])
STYLE = Path(__file__).parents[3] / "kvbench/report/templates/report.css"


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


# ---- speed ----------------------------------------------------------------------------------------------------------


def test_the_speed_chart_draws_the_records_rates_and_intervals():
    record = two_arms()
    (bars,) = speed(record, LOOKS).figure["data"]
    rates = [each.decode_tokens_per_s for each in record.arms]
    assert [rate.value for rate in rates] == bars["x"]
    assert [rate.ci_high - rate.value for rate in rates] == bars["error_x"]["array"]
    assert [rate.value - rate.ci_low for rate in rates] == bars["error_x"]["arrayminus"]
    assert [LOOKS[name].colour for name in arm_names(record)] == bars["marker"]["color"]


def test_the_speed_up_stands_between_its_blocks_and_the_band_of_no_change():
    found = block_series([block(0), block(1, slow=1.5), block(2)], [(0, 1)])
    chart = speedup(two_arms(), found, LOOKS)
    blocks, headline, end_to_end = chart.figure["data"]
    assert pytest.approx([2.0, 3.0, 2.0]) == blocks["x"]
    assert [3.42] == headline["x"]
    assert pytest.approx([0.05]) == headline["error_x"]["array"]
    assert [2.91] == end_to_end["x"]
    shade = chart.figure["layout"]["shapes"][0]
    assert (1 / 1.01, 1.01) == (shade["x0"], shade["x1"])
    assert "3.42× [3.38, 3.47]" in chart.caption
    assert "FASTER, end to end 2.91× [2.88, 2.95]" in chart.caption


def test_a_block_that_another_stands_for_has_no_ratio():
    found = block_series([block(0), block(1, slow=9.0), block(2, repeats=1)], [(0, 1)])
    assert pytest.approx([2.0, 2.0]) == found.ratios[0, 1]


def test_a_pair_that_is_not_a_result_is_named_and_not_drawn():
    chart = speedup(invalid(), NO_BLOCKS, LOOKS)
    assert chart.figure is None
    assert "cached (dynamic) is not a result: mode_proof: 3 steps" in chart.caption


def test_one_arm_alone_has_no_chart_of_speed_ups():
    assert speedup(one_arm(), NO_BLOCKS, LOOKS) is None


# ---- where a step's time goes ---------------------------------------------------------------------------------------


def test_a_step_on_a_device_is_split_into_computing_and_waiting():
    known = {"launch_s": 0.00242, "device_busy_s": 0.001, "floor_s": 0.0004}
    record = changed(two_arms(), **{f"arms__0__limit__{name}": value for name, value in known.items()})
    chart = step_time(record, LOOKS)
    computing, waiting = traces(chart, type="bar", y=[0])
    assert pytest.approx([1.0]) == computing["x"]
    assert pytest.approx([2.42]) == waiting["x"]
    assert "/" == waiting["marker"]["pattern"]["shape"]
    assert "nocache 3.42 ms [3.39, 3.45], 70.8 % waiting for the host" in chart.caption
    assert [0.4] == next(each["x"] for each in hollow(chart) if each["marker"]["symbol"] == "line-ns-open")


def test_a_step_on_the_host_is_split_into_submitting_and_computing():
    record = changed(two_arms(), arms__1__limit__launch_s=0.00025)
    assert "cached (dynamic) 1.00 ms [0.99, 1.01], 25.0 % submitting operations" in step_time(record, LOOKS).caption


def test_a_step_whose_making_is_not_known_is_one_bar():
    chart = step_time(two_arms(), LOOKS)
    assert [[3.42], [1.0]] == [each["x"] for each in traces(chart, type="bar")]
    assert "Hatched" not in chart.caption


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


def test_the_roofline_puts_every_pass_at_its_intensity_and_rate():
    chart = roofline(under_a_roof(), LOOKS)
    roof, recompute, _, step, _, prefill, _ = chart.figure["data"]
    assert [500.0] == recompute["x"]
    assert pytest.approx(20e9 / 0.00342 / 1e12, rel=1e-4) == recompute["y"][0]
    assert ([2.0], [0.1]) == (step["x"], step["y"])
    assert pytest.approx(20e9 / 0.0125 / 1e12, rel=1e-4) == prefill["y"][0]
    assert [prefill] == hollow(chart)
    assert [100.0, 10.0] == [roof["x"][1], roof["y"][1]]
    assert pytest.approx(roof["x"][0] * 1e11 / 1e12, rel=1e-4) == roof["y"][0]
    assert "cached (dynamic): a step does 2 FLOP per byte and reaches 0.1 TFLOP/s, 50.0 % of the roof" in chart.caption


def test_a_roofline_without_a_roof_says_so_and_one_without_work_is_left_out():
    record = changed(under_a_roof(), ceilings=None, null_reasons={"/arms/0/limit/floor_s": "doctor --ceilings"})
    assert "No roof to measure against: doctor --ceilings." == roofline(record, LOOKS).caption
    assert roofline(two_arms(), LOOKS) is None


# ---- steps ----------------------------------------------------------------------------------------------------------


def test_steps_of_the_first_visit_are_hollow_and_apart():
    record = changed(two_arms(), arms__0__cold__step_s=[[0.005, 0.006]])
    chart = latency_by_context(record, [series(0), series(1)], LOOKS)
    (first,) = hollow(chart)
    assert ([129, 130], [5.0, 6.0]) == (first["x"], first["y"])
    assert [LOOKS["nocache"].colour, "square-open"] == [first["marker"]["color"], first["marker"]["symbol"]]
    assert "Hollow: steps of the first visit, median nocache 5.50 ms (3.67× the later ones)." in chart.caption
    assert "log" != chart.figure["layout"]["yaxis"].get("type")


def test_first_visits_much_slower_than_warm_steps_make_the_axis_logarithmic():
    record = changed(two_arms(), arms__0__cold__step_s=[[0.075, 0.076]])
    axis = latency_by_context(record, [series(0), series(1)], LOOKS).figure["layout"]["yaxis"]
    assert "log" == axis["type"]
    assert 10 ** axis["range"][1] > 76


def test_time_adds_up_from_the_prompt_on_and_tells_who_is_ahead():
    record = changed(two_arms(), arms__0__ttft_s=estimate(0.001), arms__1__ttft_s=estimate(0.002))
    steps = [series(0, latency=(0.004, 0.004)), series(1, latency=(0.0035, 0.001))]
    chart = cumulative_time(record, steps, LOOKS)
    recompute, cached = chart.figure["data"]
    assert ([1, 2, 3], pytest.approx([1.0, 5.0, 9.0])) == (recompute["x"], recompute["y"])
    assert pytest.approx([2.0, 5.5, 6.5]) == cached["y"]
    assert "3 new tokens take: nocache 9.00 ms; cached (dynamic) 6.50 ms." in chart.caption
    assert "cached (dynamic) has taken less time than nocache from new token 3 on." in chart.caption


def test_the_first_visit_adds_up_beside_the_warm_one():
    record = changed(two_arms(), arms__1__cold__step_s=[[0.005, 0.006]])
    chart = cumulative_time(record, [series(0), series(1)], LOOKS)
    (first,) = hollow(chart)
    assert ([1, 2, 3], pytest.approx([50.0, 55.0, 61.0])) == (first["x"], first["y"])


def test_prompts_of_several_lengths_and_rebuilt_caches_add_up_to_nothing():
    several = changed(two_arms(), workload__prompt_tokens=[128, 64])
    rebuilt = changed(two_arms(), arms__1__mode="interrupted")
    assert [None, None] == [cumulative_time(each, [series(0), series(1)], LOOKS) for each in (several, rebuilt)]


# ---- growth ---------------------------------------------------------------------------------------------------------


def test_a_law_is_evaluated_term_by_term():
    square = grown().growth.laws[0].model_copy(update={"per_token2_s": grown().growth.laws[0].per_token_s})
    assert pytest.approx(1e-3 + 5e-6 * 10 + 5e-6 * 100) == law_s(square, 10.0)
    assert pytest.approx(sum(law_s(square, length) for length in (65, 66, 67))) == total_s(square, 64, 4)


def test_a_maximum_adds_up_as_it_is_and_not_as_a_sum():
    # It was once added up as launch + a·L: recompute then lost from the first step on.
    record = grown()
    laws = [law(0, 4e-3, 5e-6), law(1, 4e-3, 1e-7, order="linear")]
    laws[0]["form"] = "max"
    record = changed(record, growth__laws=laws)
    assert pytest.approx(4e-3) == law_s(record.growth.laws[0], 800.0)
    assert pytest.approx(5e-3) == law_s(record.growth.laws[0], 1000.0)
    caption = cumulative_by_law(record, record.growth, LOOKS).caption
    contexts = [64 + step for step in range(1, 4096)]
    ahead, lead = None, 0.0
    for token, context in enumerate(contexts, start=2):
        lead += max(4e-3, 5e-6 * context) - (4e-3 + 1e-7 * context)
        ahead = None if lead <= 0 else ahead or token
    assert f"cached (dynamic) has taken less time than nocache from new token {ahead:,} on." in caption
    # From 4 ms at 64 tokens to 10.24 ms at 2,048.
    gained = (10.24e-3 - 4e-3) / (2048 - 64) * 1e3
    assert f"where nocache gains {gained * 1e3:.2f} ms" in " ".join(growth_sentences(record))


def test_a_law_is_a_line_through_the_points_measured_with_a_real_decode_on_top():
    record = grown()
    chart = latency_by_law(record, record.growth, LOOKS)
    (line,) = traces(chart, legendgroup="0", mode="lines")
    assert (64.0, 2048.0) == (line["x"][0], line["x"][-1])
    assert pytest.approx([1.32, 11.24]) == [line["y"][0], line["y"][-1]]
    points = next(each for each in traces(chart, legendgroup="0", mode="markers") if "error_y" in each)
    assert ([64.0, 2048.0], [1.32, 11.24]) == (points["x"], points["y"])
    assert pytest.approx([0.0132, 0.1124]) == points["error_y"]["array"]
    first, second = (each for each in traces(chart, legendgroup="0", mode="markers") if "error_y" not in each)
    assert ([65, 66, 67], [2.0, 2.0, 2.0], "square-open") == (first["x"], first["y"], first["marker"]["symbol"])
    assert [1.3, 1.3, 1.4] == second["y"]


def test_the_break_even_length_is_shaded_over_its_interval():
    record = grown()
    chart = latency_by_law(record, record.growth, LOOKS)
    shade, upright = chart.figure["layout"]["shapes"]
    assert (580.0, 630.0, 600.0) == (shade["x0"], shade["x1"], upright["x0"])
    assert "from about 600 tokens on the candidate's step is the faster one" in chart.caption


def test_an_open_end_of_the_break_even_is_shaded_to_the_end_of_what_was_measured():
    record = grown(break_evens=[BREAK_EVEN | {"ci_low": None, "ci_high": None}])
    shade = latency_by_law(record, record.growth, LOOKS).figure["layout"]["shapes"][0]
    assert (64.0, 2048.0) == (shade["x0"], shade["x1"])


def test_a_break_even_that_was_not_found_is_said_and_not_drawn():
    record = grown(break_evens=[BREAK_EVEN | {"context_length": None, "detail": "not within the range measured"}])
    chart = latency_by_law(record, record.growth, LOOKS)
    assert [] == chart.figure["layout"]["shapes"]
    assert "not within the range measured" in chart.caption


def test_totals_by_the_laws_tell_from_which_token_on_a_whole_generation_gains():
    record = grown()
    chart = cumulative_by_law(record, record.growth, LOOKS)
    measured, beyond = (each for each in traces(chart, legendgroup="0", mode="markers"))
    assert ([16], [0.0204], [4096], [47.2]) == (measured["x"], measured["y"], beyond["x"], beyond["y"])
    assert "square-open" == beyond["marker"]["symbol"]
    # By hand: sum of 5e-6 (64 + i) - 3e-3 over i = 1 … n - 1 passes 0 with the step at context 64 + 1072 = 1,136.
    spent = 0.0
    for step in range(1, 4096):
        spent += 5e-6 * (64 + step) - 3e-3
        if spent > 0:
            break
    assert f"less time than nocache from new token {step + 1:,} on" in chart.caption


# ---- memory ---------------------------------------------------------------------------------------------------------

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


def test_the_parts_of_memory_add_up_to_what_the_device_had_in_use():
    record = changed(two_arms(), arms__1__memory__reconciliation=RECONCILIATION)
    chart = memory_stack(record)
    assert pytest.approx(1000) == sum(each["x"][0] for each in chart.figure["data"])
    assert [[1]] * 8 == [each["y"] for each in chart.figure["data"]]
    assert 1000 * MEBIBYTE == sum(memory_parts(record.arms[1].memory).values())
    assert "relative" == chart.figure["layout"]["barmode"]
    assert "cached (dynamic) 1,000 MiB: weights 500 MiB, KV cache 20.0 MiB" in chart.caption
    assert "unexplained -10.0 MiB" in chart.caption


def test_on_the_host_the_rest_of_the_process_completes_weights_and_cache():
    parts = memory_parts(two_arms().arms[1].memory)
    assert {"weights": 8 * MEBIBYTE, "KV cache": 89600, "rest of the process": 692 * MEBIBYTE - 89600} == parts


def test_memory_that_is_not_known_is_no_stack():
    record = changed(
        two_arms(), arms__0__memory__process_rss_bytes=None, arms__1__memory__device_used_bytes=5 * MEBIBYTE
    )
    assert memory_stack(record) is None


# ---- device ---------------------------------------------------------------------------------------------------------


def test_the_device_is_drawn_at_both_ends_of_every_block_with_what_held_it_down():
    hot = reading(1200, 310.0, 95, ["hw_thermal"])
    found = block_series(
        [
            block(0, before=reading(), after=reading(power=320.0, limits=["power_cap"])),
            block(1, before=reading(), after=hot, throttled=["hw_thermal"]),
            block(2, before=reading(), after=reading(), repeats=1),
        ],
        [],
    )
    chart = device_timeline(found)
    clock, power, temperature = chart.figure["data"]
    assert [0, 1, 1, 2, 2, 3] == clock["x"]
    assert [1980, 1980, 1980, 1200, 1980, 1980] == clock["y"]
    assert (320.0, 95) == (max(power["y"]), max(temperature["y"]))
    shades = [(each["x0"], each["x1"], each["fillcolor"]) for each in chart.figure["layout"]["shapes"]]
    assert [(0, 1, NEUTRAL), (1, 2, WARNING)] == shades
    assert "SM clock 1,200 to 1,980 MHz; power 300 to 320 W; temperature 50 to 95 °C." in chart.caption
    assert "hw_thermal in 1 of 3 blocks" in chart.caption
    assert "Throttled (orange), by index: 1; repeated: 1." in chart.caption


def test_no_sensors_no_device_chart():
    assert device_timeline(block_series([block(0)], [])) is None


# ---- agreement ------------------------------------------------------------------------------------------------------


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


def test_differences_by_step_stand_beside_the_noise_and_what_is_allowed():
    chart = agreement(agreeing([1e-3, 4e-3, 2e-3], flips=[1], first_divergence=2), LOOKS)
    line, flipped = chart.figure["data"]
    assert ([0, 1, 2], [1e-3, 4e-3, 2e-3]) == (line["x"], line["y"])
    assert ([1], [4e-3]) == (flipped["x"], flipped["y"])
    allowed, noise, divergence = chart.figure["layout"]["shapes"]
    assert (1e-2, 2e-3, 2) == (allowed["y0"], noise["y0"], divergence["x0"])
    assert pytest.approx([-2, math.log10(2e-3)]) == [each["y"] for each in chart.figure["layout"]["annotations"]][:2]
    assert "at most 0.004 (step 1 of 3); rounding alone 0.002, allowed 0.01" in chart.caption
    assert "another likeliest token at 1 step; free runs part at new token 2." in chart.caption


def test_exact_zeros_have_a_line_of_their_own_below_everything_else():
    chart = agreement(agreeing([0.0, 4e-3, 0.0]), LOOKS)
    (line,) = chart.figure["data"]
    axis = chart.figure["layout"]["yaxis"]
    assert "0" == axis["ticktext"][0]
    assert [axis["tickvals"][0]] * 2 == [line["y"][0], line["y"][2]]
    assert axis["tickvals"][0] < 2e-3 / 5
    assert "exactly 0 at 2" in chart.caption


def test_arms_that_compute_the_same_bits_are_said_to():
    chart = agreement(agreeing([0.0, 0.0], verdict="IDENTICAL", noise_rel=0.0, allowed_rel=5e-6), LOOKS)
    assert "IDENTICAL, every logit equal to the bit at all 2 steps" in chart.caption
    assert ["0", "0"] == chart.figure["data"][0]["customdata"]


def test_a_record_without_differences_by_step_has_no_such_chart():
    assert agreement(two_arms(), LOOKS) is None


# ---- frontier -------------------------------------------------------------------------------------------------------


def test_the_frontier_shows_what_was_found_beside_what_was_predicted():
    common = {"fixed": 1, "tries": [], "detail": "nothing fits"}
    edges = [
        {"arm": 0, "axis": "context", "predicted": 1100, "found": 1000, "found_above": 1008, "error": 0.1, **common},
        {"arm": 1, "axis": "batch", "predicted": 64, "found": None, "found_above": None, "error": None, **common},
    ]
    chart = frontier(changed(two_arms(), frontier={"limit_bytes": None, "edges": edges}), LOOKS)
    sizes = {each["marker"]["symbol"]: each["x"] for each in chart.figure["data"] if each["mode"] == "markers"}
    assert {"x-thin-open": [1008], "square-open": [1100], "square": [1000], "circle-open": [64]} == sizes
    assert "nocache fits 1,000 tokens of context at a batch of 1 (predicted 1,100, +10.0 %)." in chart.caption
    assert "cached (dynamic), batch: nothing fits." in chart.caption
    assert frontier(two_arms(), LOOKS) is None


# ---- all of them ----------------------------------------------------------------------------------------------------

EVERY = {
    "two arms": two_arms(),
    "one arm": one_arm(),
    "growth": grown(),
    "roof": under_a_roof(),
    "agreement": agreeing([0.0, 1e-3]),
    "device memory": changed(two_arms(), arms__1__memory__reconciliation=RECONCILIATION),
    "invalid": invalid(),
    "failed": failed(),
    "hostile": hostile(),
}


@pytest.mark.parametrize("record", EVERY.values(), ids=EVERY)
def test_plotly_accepts_every_figure_and_every_chart_says_something(record):
    names = looks(arm_names(record))
    steps = [series(number) for number in range(len(record.arms))]
    blocks = [block(0, before=reading(), after=reading())] if len(record.arms) == 2 else []
    for chart in run_charts(record, steps, names, blocks):
        assert chart.caption.endswith((".", ".)"))
        if chart.figure is not None:
            go.Figure(chart.figure)
            json.dumps(chart.figure, allow_nan=False)


def test_no_name_is_markup_in_a_figure():
    record = hostile()
    charts = run_charts(record, [series(0), series(1)], looks(arm_names(record)), [block(0)])
    drawn = json.dumps([chart.figure for chart in charts])
    assert not re.search(r"<(script|img|/script)", drawn)
    assert label(HOSTILE[0]) == "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;"


def test_an_arm_has_one_colour_in_every_chart():
    record = changed(grown(), arms__1__cold__step_s=[[0.005, 0.006]])
    cached, recompute = LOOKS["cached (dynamic)"].colour, LOOKS["nocache"].colour
    for chart in run_charts(record, [series(0), series(1)], LOOKS, [block(0)]):
        for trace in chart.figure["data"] if chart.figure else ():
            if trace.get("name") in LOOKS:
                colour = trace.get("line", trace.get("marker"))["color"]
                assert (cached if trace["name"].startswith("cached") else recompute) == colour


def test_a_logarithmic_axis_has_whole_numbers_and_few_of_them():
    assert ["1", "2", "5", "10", "20"] == log_axis(0.9, 30)["ticktext"]
    assert len(log_axis(1e-9, 1e9)["tickvals"]) <= 8
    assert [3.2, 4.0] == log_axis(3.2, 4.0)["tickvals"]


def test_panels_fill_the_height_from_the_top():
    (top, bottom) = stacked(2, 0.2)
    assert pytest.approx([0.6, 1.0, 0.0, 0.4]) == [*top, *bottom]


def test_a_rule_lies_across_one_axis():
    assert ("paper", 0, 1, 3.0) == tuple(rule(y=3.0)[name] for name in ("xref", "x0", "x1", "y0"))
    assert ("paper", 0, 1, 3.0) == tuple(rule(x=3.0)[name] for name in ("yref", "y0", "y1", "x0"))


@pytest.mark.parametrize(("theme", "place"), [(LIGHT, 1), (DARK, 2)], ids=["light", "dark"])
def test_pictures_have_the_colours_of_the_page(theme, place):
    style = STYLE.read_text()
    colours = dict.fromkeys(vars(theme))
    for name in colours:
        colours[name] = re.search(rf"--{name}: light-dark\((#\w+), (#\w+)\)", style)[place]
    assert colours == vars(theme)


def test_arms_of_their_own_keep_their_looks_when_the_row_is_one():
    chart = speed(one_arm(arms=[arm("cached")]), LOOKS)
    assert [LOOKS["cached (dynamic)"].colour] == chart.figure["data"][0]["marker"]["color"]
