"""The columns of exported tables: type, unit and meaning of each.

csv, parquet, the views of `kvbench query` and the tables of a dataset have the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from kvbench.arm import PARTS, Arm
from kvbench.report.metrics import METRICS, Metric

Row = dict[str, str | float | int | bool | None]


@dataclass(frozen=True)
class Column:
    """One column; `unit` is empty for text, and for a number without a dimension."""

    kind: type
    unit: str
    meaning: str


def _text(meaning: str) -> Column:
    return Column(str, "", meaning)


def _count(unit: str, meaning: str) -> Column:
    return Column(int, unit, meaning)


def _sentence(help: str) -> str:
    """The meaning of a key, as a sentence."""
    return f"{help[0].upper()}{help[1:]}."


def _interval(name: str, unit: str, meaning: str) -> dict[str, Column]:
    return {
        name: Column(float, unit, meaning),
        f"{name}_ci_low": Column(float, unit, f"Lower end of the confidence interval of {name}."),
        f"{name}_ci_high": Column(float, unit, f"Upper end of the confidence interval of {name}."),
        f"{name}_level": Column(float, "ratio", f"Coverage of the confidence interval of {name}."),
    }


def _metric(metric: Metric) -> dict[str, Column]:
    if metric.has_interval:
        blocks = {f"{metric.key}_n": _count("blocks", f"Blocks behind {metric.key}.")}
        return _interval(metric.key, metric.unit, metric.computed) | blocks
    kind = int if metric.unit in ("bytes", "count") else float
    return {metric.key: Column(kind, metric.unit, metric.computed)}


RUN: Mapping[str, Column] = {
    "run_id": _text("Identifies the run; sorts by time."),
    "created_at": _text("When the run began, ISO 8601 in UTC."),
    "name": _text("Name of the run: the model's, unless the key name says another."),
    "status": _text("How the run ended: ok, invalid, failed, oom, timeout, crashed, interrupted, infeasible, refused."),
    "status_reason": _text("Why the run is not ok."),
    "kvbench_version": _text("Version of kvbench that measured."),
    "compare_key": _text("Equal for runs that can be compared."),
    "dtype": _text("Type of the weights."),
    "device_name": _text("Name of the device."),
    "prompts": _count("count", "Number of prompts."),
    "prompt_tokens_max": _count("tokens", "Tokens of the longest prompt."),
    "new_tokens": _count("tokens", "New tokens of every sequence."),
    "batch_size": _count("count", "Sequences decoded together."),
    "model_revision": _text("Commit of the hub repository that the model was loaded from."),
    "torch": _text("Version of torch."),
    "transformers": _text("Version of transformers."),
    "driver": _text("Version of the device's driver."),
    "git_commit": _text("Git commit of the checkout that kvbench ran from; null for an installed package."),
    "git_dirty": Column(bool, "", "Whether that checkout had uncommitted changes."),
    "folder": _text("Run folder, as the command found it."),
}

# The fitted law of a run over several lengths: the field that each column is read from.
LAW = {"launch_s": "launch_s", "per_token_s": "per_token_s", "per_token2_s": "per_token2_s", "ratio": "growth"}
_GROWTH_UNITS = {"launch_s": "s", "per_token_s": "s/token", "per_token2_s": "s/token²", "ratio": "times"}
_GROWTH_MEANINGS = {
    "launch_s": "Time of a step at length 0, by the fitted law of growth.",
    "per_token_s": "Time that each token of context adds to a step.",
    "per_token2_s": "Time that the square of the context length adds to a step.",
    "ratio": "Step time at the longest length ÷ step time at the shortest.",
}

ARM: Mapping[str, Column] = {
    "arm": _text("Name of the arm: what sets it apart from the run's other arms."),
    **{each.name: Column(PARTS[each.name], "", _sentence(each.metadata["help"])) for each in fields(Arm)},
    **{name: column for metric in METRICS for name, column in _metric(metric).items()},
    "bound": _text("What limits a decode step: launch, memory, compute or first-visit."),
    **{
        column: each
        for name in LAW
        for column, each in _interval(f"growth_{name}", _GROWTH_UNITS[name], _GROWTH_MEANINGS[name]).items()
    },
    "growth_exponent": Column(
        float, "", "Logarithm of growth_ratio over that of the lengths: 0 is constant, 1 proportional."
    ),
    "growth_worst_error": Column(float, "ratio", "Largest relative distance of a measured length from the law."),
    "growth_order": _text("Form of the growth: constant, linear, quadratic, growing or irregular."),
}

PAIR: Mapping[str, Column] = {
    "baseline": _text("Arm that this one is compared with."),
    "verdict": _text("FASTER, SLOWER, SAME, AMBIGUOUS or INVALID."),
    "not_a_result": _text("Why the comparison is no result; it then has no speed-up."),
    **_interval("speedup", "times", "Decode tokens/s of the candidate ÷ the baseline's."),
    "speedup_n_blocks": _count("blocks", "Pairs of blocks behind speedup."),
    **_interval("end_to_end_speedup", "times", "The same with the prefill included."),
    "end_to_end_speedup_n_blocks": _count("blocks", "Pairs of blocks behind end_to_end_speedup."),
    "agreement": _text("Whether the output is the same: the verdict's code."),
    "max_abs_logit_diff": Column(float, "logits", "Largest absolute difference between the logits of both arms."),
    "max_rel_logit_diff": Column(float, "ratio", "Largest relative difference between the logits of both arms."),
    "noise_rel": Column(float, "ratio", "Relative difference that rounding alone makes on this machine."),
    "allowed_rel": Column(float, "ratio", "Largest relative difference that still counts as rounding."),
    "argmax_flips": _count("count", "Compared steps at which the likeliest token differs."),
    "extra_memory_bytes": _count("bytes", "Peak memory of the candidate less the baseline's."),
    "break_even_context": _count("tokens", "Context length from which the candidate's step is the faster one."),
    "break_even": _text("The same as a sentence, in a run over several lengths."),
    "diagnosis": _text("Why the speed-up is what it is."),
}

STEPS: Mapping[str, Column] = {
    "run_id": RUN["run_id"],
    "folder": RUN["folder"],
    "arm": ARM["arm"],
    "lane": _text("steps: a timed decode step; trace: a new token whose confidence was traced."),
    "block": _count("index", "Block of a timed step, from 0."),
    "batch": _count("index", "Batch of prompts, from 0."),
    "prompt": _count("index", "First prompt of the batch; in lane trace the sequence's own."),
    "step": _count("index", "Decode step, from 1; in lane trace 0 is the prefill's token."),
    "context_length": _count("tokens", "Tokens visible to the step."),
    "latency_s": Column(float, "s", "Time of the step; null in lane trace."),
    "token_id": _count("", "Token of lane trace."),
    "token_text": _text("Its text."),
    "probability": Column(float, "ratio", "Probability that the model gave the token."),
    "rank": _count("count", "Rank of the token among all, from 1."),
    "entropy_nats": Column(float, "nats", "Entropy of the distribution that the token was taken from."),
}

# The same columns in every export, whatever the runs hold, so that exports of different days can be joined.
COLUMNS: Mapping[str, Column] = {**RUN, **ARM, **PAIR}

VIEWS: Mapping[str, Mapping[str, Column]] = {
    "runs": RUN,
    "arms": COLUMNS,
    "comparisons": {**RUN, "candidate": ARM["arm"], **PAIR},
    "steps": STEPS,
}
VIEW_MEANINGS: Mapping[str, str] = {
    "runs": "One row per run.",
    "arms": "One row per run and arm, as in export --format csv; a run without arms has one row.",
    "comparisons": "One row per comparison of two arms of a run.",
    "steps": "One row per decode step that was timed by itself, and per token of a trace.",
}
