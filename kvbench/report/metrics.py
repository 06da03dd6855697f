"""Everything that is measured of an arm, as the rows of one table: the console, the page and the exports read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from kvbench.records.part import Estimate
from kvbench.records.schema import ArmRecord
from kvbench.report.formatting import UNKNOWN, Unit, format_estimate, format_exact, format_value

Better = Literal["lower", "higher", "none"]
Group = Literal["speed", "first visit", "single steps", "memory", "proof", "energy", "limit"]
Figure = Estimate | float | None


@dataclass(frozen=True)
class Metric:
    """One measured figure. `path` leads to it inside an arm of run.json; `key` is its column in exports."""

    key: str
    title: str
    unit: Unit
    better: Better
    group: Group
    computed: str
    path: str

    def read(self, arm: ArmRecord) -> Figure:
        """The figure of one arm; None when it is unknown."""
        value: object = arm
        for name in self.path.split("/"):
            value = None if value is None else getattr(value, name)
        return cast(Figure, value)

    def value(self, arm: ArmRecord) -> float | None:
        """The figure of one arm without its interval."""
        figure = self.read(arm)
        return figure.value if isinstance(figure, Estimate) else figure

    def show(self, arm: ArmRecord) -> str:
        """The figure of one arm as people read it, an em dash when it is unknown."""
        figure = self.read(arm)
        if isinstance(figure, Estimate):
            return format_estimate(figure, self.unit)
        return format_value(figure, self.unit)

    def exact(self, arm: ArmRecord) -> str:
        """The figure of one arm as recorded."""
        return format_exact(self.value(arm), self.unit)

    def pointer(self, arm: int) -> str:
        """Where run.json holds the figure of one arm: the key of `null_reasons`."""
        return f"/arms/{arm}/{self.path}"

    def __str__(self) -> str:
        return self.title


METRICS: tuple[Metric, ...] = (
    Metric(
        "ttft_s",
        "TTFT",
        "s",
        "lower",
        "speed",
        "Time to first token: submit to first new token on the device, mean over a block's batches; median of blocks.",
        "ttft_s",
    ),
    Metric(
        "itl_s",
        "ITL",
        "s",
        "lower",
        "speed",
        "Inter-token latency: mean time of a decode step within a block, throughput lane; median over blocks.",
        "itl_s",
    ),
    Metric(
        "decode_tokens_per_s",
        "decode tokens/s",
        "tokens/s",
        "higher",
        "speed",
        "New tokens after the first of every sequence ÷ decode time, throughput lane; median over blocks.",
        "decode_tokens_per_s",
    ),
    Metric(
        "end_to_end_tokens_per_s",
        "end-to-end tokens/s",
        "tokens/s",
        "higher",
        "speed",
        "All new tokens ÷ (TTFT + decode time), throughput lane; median over blocks.",
        "end_to_end_tokens_per_s",
    ),
    Metric(
        "cold_ttft_s",
        "TTFT, first visit",
        "s",
        "lower",
        "first visit",
        "TTFT of the arm's very first generation in this process; never averaged with the others.",
        "cold/ttft_s",
    ),
    Metric(
        "cold_itl_s",
        "ITL, first visit",
        "s",
        "lower",
        "first visit",
        "Mean decode step of the arm's very first generation; never averaged with the others.",
        "cold/itl_s",
    ),
    Metric(
        "load_s",
        "model load",
        "s",
        "lower",
        "first visit",
        "From opening the weights to a model ready on its device.",
        "cold/load_s",
    ),
    Metric(
        "compile_s",
        "compilation",
        "s",
        "lower",
        "first visit",
        "Time of the first visit that went to compiling or capturing, once for each shape.",
        "cold/compile_s",
    ),
    *(
        Metric(
            f"itl_p{rank}_s",
            f"decode step, p{rank}",
            "s",
            "lower",
            "single steps",
            f"{rank}th percentile over single decode steps of the per-token lane; descriptive, steps are correlated.",
            f"itl_percentiles_s/p{rank}",
        )
        for rank in (50, 90, 95, 99)
    ),
    Metric(
        "itl_tokens",
        "decode steps in the percentiles",
        "count",
        "none",
        "single steps",
        "Decode steps timed one by one in the per-token lane.",
        "itl_percentiles_s/n_tokens",
    ),
    Metric(
        "step_lane_cost",
        "cost of timing every step",
        "ratio",
        "none",
        "single steps",
        "Decode time of the per-token lane ÷ that of the throughput lane, minus 1.",
        "step_lane_cost",
    ),
    Metric(
        "trace_cost",
        "cost of token confidence",
        "ratio",
        "none",
        "single steps",
        "Decode time of the lane that traces token confidence ÷ that of the throughput lane, minus 1.",
        "trace_cost",
    ),
    Metric(
        "weights_bytes",
        "weights",
        "bytes",
        "lower",
        "memory",
        "Bytes of the model's parameters and buffers, tied ones once.",
        "memory/weights_bytes",
    ),
    Metric(
        "kv_cache_bytes",
        "KV cache, walked",
        "bytes",
        "lower",
        "memory",
        "Sum over the tensors that the cache's layers hold at the end of the largest batch.",
        "memory/kv_cache_bytes",
    ),
    Metric(
        "kv_cache_predicted_bytes",
        "KV cache, predicted",
        "bytes",
        "none",
        "memory",
        "From the model's config alone: 2 × layers × KV heads × head width × bytes of a value × tokens × sequences.",
        "memory/kv_cache_predicted_bytes",
    ),
    Metric(
        "kv_cache_storage_bytes",
        "KV cache, storage",
        "bytes",
        "lower",
        "memory",
        "Bytes of the distinct storages behind the cache's tensors.",
        "memory/kv_cache_storage_bytes",
    ),
    Metric(
        "peak_allocated_bytes",
        "peak allocated",
        "bytes",
        "lower",
        "memory",
        "Highest mark of torch's allocator during the arm's untimed pass, after emptying it.",
        "memory/peak_allocated_bytes",
    ),
    Metric(
        "peak_reserved_bytes",
        "peak reserved",
        "bytes",
        "lower",
        "memory",
        "Highest mark of what torch's allocator took from the device in that pass.",
        "memory/peak_reserved_bytes",
    ),
    Metric(
        "device_used_bytes",
        "device memory in use",
        "bytes",
        "lower",
        "memory",
        "In use on the whole device by every process, as its driver reports it.",
        "memory/device_used_bytes",
    ),
    Metric(
        "process_rss_bytes",
        "process memory (RSS)",
        "bytes",
        "lower",
        "memory",
        "Resident memory of the measured process after the arm's untimed pass.",
        "memory/process_rss_bytes",
    ),
    Metric(
        "step_peak_bytes",
        "step peak",
        "bytes",
        "none",
        "memory",
        "Peak allocated less weights and cache: activations, prompts and workspaces of a step.",
        "memory/reconciliation/step_peak_bytes",
    ),
    Metric(
        "allocator_slack_bytes",
        "allocator slack",
        "bytes",
        "none",
        "memory",
        "Peak reserved less peak allocated: taken from the device and never in use at once.",
        "memory/reconciliation/allocator_slack_bytes",
    ),
    Metric(
        "device_context_bytes",
        "device context",
        "bytes",
        "none",
        "memory",
        "What starting CUDA took on the device, before anything was loaded.",
        "memory/reconciliation/device_context_bytes",
    ),
    Metric(
        "kernels_bytes",
        "kernels and plans",
        "bytes",
        "none",
        "memory",
        "What came to be outside the allocator before the pass: kernel code, plans, library handles.",
        "memory/reconciliation/kernels_bytes",
    ),
    Metric(
        "elsewhere_bytes",
        "elsewhere",
        "bytes",
        "none",
        "memory",
        "In use on the device before this process touched it: its driver, other processes.",
        "memory/reconciliation/elsewhere_bytes",
    ),
    Metric(
        "unexplained_bytes",
        "unexplained",
        "bytes",
        "none",
        "memory",
        "Device memory in use less all of the above, weights and cache.",
        "memory/reconciliation/unexplained_bytes",
    ),
    Metric(
        "padding_share",
        "padding to buckets",
        "ratio",
        "lower",
        "proof",
        "Tokens that decode steps without a past submit ÷ those that they need, minus 1; 0 at exact lengths.",
        "padding_share",
    ),
    Metric(
        "proof_steps_checked",
        "steps proved",
        "count",
        "none",
        "proof",
        "Forward passes whose submission (tokens, past length) was checked against the mode's promise.",
        "proof/steps_checked",
    ),
    Metric(
        "proof_violations",
        "proof violations",
        "count",
        "lower",
        "proof",
        "Of those, the ones that broke the promise; one is enough to make the run INVALID.",
        "proof/violations",
    ),
    Metric(
        "joules_per_token",
        "energy per token",
        "J/token",
        "lower",
        "energy",
        "The device's energy counter over repeated generations, prefills and idle power included, ÷ new tokens.",
        "energy/joules_per_token",
    ),
    Metric(
        "idle_watts",
        "idle power",
        "W",
        "none",
        "energy",
        "The device's power before the window, with the model loaded and nothing running.",
        "energy/idle_watts",
    ),
    Metric(
        "energy_window_s",
        "energy window",
        "s",
        "none",
        "energy",
        "Length of the window that the energy was read over.",
        "energy/window_s",
    ),
    Metric(
        "floor_s",
        "floor of a step",
        "s",
        "none",
        "limit",
        "The shortest decode step that the machine's measured bandwidth and FLOP rate allow.",
        "limit/floor_s",
    ),
    Metric(
        "mbu",
        "bandwidth used (MBU)",
        "ratio",
        "higher",
        "limit",
        "Achieved memory bandwidth ÷ the ceiling measured on this machine.",
        "limit/mbu",
    ),
    Metric(
        "mfu",
        "arithmetic used (MFU)",
        "ratio",
        "higher",
        "limit",
        "Achieved FLOP rate ÷ the ceiling measured on this machine.",
        "limit/mfu",
    ),
    Metric(
        "launch_s",
        "launch time of a step",
        "s",
        "lower",
        "limit",
        "Time of a decode step that the host spends launching rather than the device computing.",
        "limit/launch_s",
    ),
)
BY_KEY = {metric.key: metric for metric in METRICS}


def unknown(metric: Metric, arm: ArmRecord) -> bool:
    """Whether the arm has no figure for this metric."""
    return metric.show(arm) == UNKNOWN
