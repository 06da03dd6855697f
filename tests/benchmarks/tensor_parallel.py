"""One model on 1, 2 … devices by tensor parallelism: step times, bytes of each rank, energy, agreement, communication.

    python tests/benchmarks/tensor_parallel.py                        # a small Llama, gloo ranks on the CPU
    python tests/benchmarks/tensor_parallel.py --device cuda --tp 1 2 # Llama 3 8B's shape, a GPU for each rank

Weights are random and need no download; every number of ranks gets the same ones, from one seed. The run of each number
is a kvbench run of its own, whose records stay in --results. The last table holds every run's tokens against those of
the first one: what differs is rounding, since sums over ranks are made in another order.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvbench.records.run_record import ArmRecord, RunRecord
from kvbench.records.store import find_runs
from kvbench.text import format_value

SMALL = {
    "model_type": "llama",
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "initializer_range": 0.09,  # larger than usual: else hardly any token depends on the ones before it
    "tie_word_embeddings": False,
}
ON_GPU = ("model=llama3-8b", "model.dtype=bfloat16", "device=cuda")
# A program that uses NVLink's multicast can put GPUs that others share out of service.
WITHOUT_MULTICAST = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}
WAIT_S = 280.0  # of one run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tp", type=int, nargs="+", default=[1, 2], help="numbers of ranks (default: 1 2)")
    parser.add_argument("--prompt", type=int, default=None, help="tokens of the prompt (default: 64, on a GPU 1024)")
    parser.add_argument("--new", type=int, default=None, help="new tokens (default: 16, on a GPU 32)")
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--energy", type=float, default=3.0, help="seconds of each energy window on a GPU")
    parser.add_argument("--results", type=Path, default=Path("results/tensor-parallel"))
    parser.add_argument("overrides", nargs="*", help="further keys, such as workload.batch_size=8")
    options = parser.parse_intermixed_args()
    for name, value in WITHOUT_MULTICAST.items():
        os.environ.setdefault(name, value)
    records: dict[int, RunRecord] = {}
    for ranks in options.tp:
        folder = options.results / f"tp{ranks}-{time.strftime('%Y%m%d-%H%M%S')}"
        began_s = time.monotonic()
        ended = subprocess.run(command(options, ranks, folder), capture_output=True, text=True, timeout=WAIT_S)
        runs = find_runs([folder]).runs if folder.exists() else ()
        print(f"{ranks} rank(s): exit code {ended.returncode} after {time.monotonic() - began_s:.0f} s", flush=True)
        if not runs or runs[0].record.status not in ("ok", "invalid"):
            print("\n".join([*ended.stdout.splitlines()[-25:], *ended.stderr.splitlines()[-25:]]), flush=True)
            for log in folder.rglob("stdout.log"):
                print("\n".join(log.read_text(errors="replace").splitlines()[-40:]), flush=True)
            continue
        records[ranks] = runs[0].record
        for line in lines(ranks, runs[0].record):
            print(line, flush=True)
    for line in across(records):
        print(line, flush=True)


def command(options: argparse.Namespace, ranks: int, folder: Path) -> list[str]:
    """The command line of one run."""
    on_gpu = options.device == "cuda"
    shape = ON_GPU if on_gpu else ("model=hub", "model.name=small-llama", "device=cpu", "threads=1")
    small = [f"+model.architecture.{key}={str(value).lower()}" for key, value in SMALL.items()]
    return [
        *(sys.executable, "-m", "kvbench", *shape, "model.weights=random"),
        *(() if on_gpu else small),
        f"model.tensor_parallel={ranks}",
        "mode=both",
        f"workload.prompt_tokens={options.prompt or (1024 if on_gpu else 64)}",
        f"workload.new_tokens={options.new or (32 if on_gpu else 16)}",
        f"measure.blocks={options.blocks}",
        f"measure.energy_s={options.energy if on_gpu else 0}",
        "stream.interval=0",
        "report=false",
        f"results_dir={folder}",
        *options.overrides,
    ]


def lines(ranks: int, record: RunRecord) -> Iterator[str]:
    """What one run says."""
    yield f"  status {record.status}: {record.status_reason}"
    for check in record.checks:
        yield f"  {'ok ' if check.passed else 'BAD'} {check.name}: {check.detail}"
    for arm in record.arms:
        yield f"  {arm.label}: TTFT {arm.ttft_s}, step {arm.itl_s}"
        limit = arm.limit
        yield (
            f"    communication {shown(limit.communication_s, 's')} of a step ({share(limit.communication_s, arm)}),"
            f" device at work {shown(limit.device_busy_s, 's')}, waiting for the host {shown(limit.launch_s, 's')},"
            f" MBU {shown(limit.mbu, 'ratio')}"
        )
        kept, weights = (shown(each, "bytes") for each in (arm.memory.kv_cache_bytes, arm.memory.weights_bytes))
        yield f"    KV cache {kept}, weights {weights}"
        for rank in arm.ranks:
            yield (
                f"    rank {rank.rank} on {rank.device}: weights {rank.weights_bytes:,} B (predicted"
                f" {rank.weights_predicted_bytes:,}), KV cache {rank.kv_cache_bytes:,} B (predicted"
                f" {rank.kv_cache_predicted_bytes}), peak {shown(rank.peak_allocated_bytes, 'bytes')}, device"
                f" {shown(rank.device_used_bytes, 'bytes')}, {rank.violations} of {rank.steps_checked} passes wrong"
            )
        energy = arm.energy
        by_device = ", ".join(format_value(each, "J/token") for each in energy.device_joules_per_token)
        yield f"    energy {shown(energy.joules_per_token, 'J/token')}" + (f" ({by_device})" if by_device else "")
        if arm.memory.reconciliation is not None:
            yield f"    not accounted for {shown(arm.memory.reconciliation.unexplained_bytes, 'bytes')}"
    if record.comparison is not None:
        yield f"  cached over nocache: {record.comparison.speedup}"
        agreement: Any = record.comparison.agreement
        yield f"  agreement: {agreement.verdict}; {agreement.detail}"
        for sentence in record.comparison.diagnosis:
            yield f"  - {sentence.text}"
    for warning in record.warnings:
        yield f"  warning {warning.code}: {warning.detail}"
    yield f"  ranks {ranks}, model {(record.model or {}).get('weight_bytes')} B of weights in all ranks together"


def across(records: dict[int, RunRecord]) -> Iterator[str]:
    """Every number of ranks beside the first."""
    if len(records) < 2:
        return
    first = next(iter(records))
    yield f"\n{'ranks':>5} {'arm':<20} {'step':>10} {'beside ' + str(first):>10} {'tokens alike':>13}"
    for ranks, record in records.items():
        for base, arm in zip(records[first].arms, record.arms, strict=True):
            step_s, base_s = arm.itl_s.value, base.itl_s.value
            ratio = f"{base_s / step_s:.2f}x" if step_s and base_s else "-"
            yield f"{ranks:>5} {arm.label:<20} {shown(step_s, 's'):>10} {ratio:>10} {alike(base, arm):>13}"


def alike(base: ArmRecord, arm: ArmRecord) -> str:
    """New tokens up to the first that differs, of how many; after a near-tie all else may differ."""
    pairs = list(zip(base.tokens, arm.tokens, strict=True))
    same = sum(next((n for n, (a, b) in enumerate(zip(*two, strict=True)) if a != b), len(two[0])) for two in pairs)
    return f"{same} of {sum(len(tokens) for tokens, _ in pairs)}"


def shown(value: float | None, unit: Any) -> str:
    return "not known" if value is None else format_value(value, unit)


def share(seconds: float | None, arm: ArmRecord) -> str:
    return f"{seconds / arm.itl_s.value:.0%}" if seconds and arm.itl_s.value else "-"


if __name__ == "__main__":
    main()
