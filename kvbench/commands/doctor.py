"""`python -m kvbench doctor`: what this machine can measure, what is missing and how to get it."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from kvbench.capabilities import TRACKERS
from kvbench.commands.arguments import Parser
from kvbench.installation import install_hint
from kvbench.readiness import is_installed
from kvbench.records.evidence import HOST_FIGURES
from kvbench.text import format_value

if TYPE_CHECKING:
    import torch

    from kvbench.records.ceilings import Ceilings
    from kvbench.records.evidence import HostCheck

BUSY_CORES = 0.3  # kept busy by others: more takes from what is measured, on a machine of few cores
EXTRAS = (  # module, what it is for, the extra that brings it
    ("pytest_benchmark", "gate regressions in a test suite", "test"),
    ("bitsandbytes", "model.quantization=int8 and nf4", "bitsandbytes"),
    ("torchao", "model.quantization=int8_weight_only and int4_weight_only", "torchao"),
    ("optimum.quanto", "cache=quanto_int4 and quanto_int2", "quanto"),
    ("hqq", "cache=hqq_int8 to hqq_int1", "hqq"),
    ("kaleido", "export --format svg and png, with a Chrome or Chromium", "images"),
    ("duckdb", "query: SQL over run folders", "query"),
    *((name, f"track={name}", name) for name in TRACKERS),
    ("sentencepiece", "tokenizers that come as tokenizer.model", "sentencepiece"),
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `works` is None for what is merely told; `gives` is what can be measured where it works.

    What is `needed` is a fault where it does not work; all else merely widens what can be measured.
    """

    name: str
    works: bool | None
    detail: str
    remedy: str = ""
    gives: str = ""
    needed: bool = False


def main(argv: Sequence[str]) -> int:
    """Look and tell; always 0."""
    options = _parser().parse_args(list(argv))
    if not options.json and sys.stdout.isatty():
        print("looking at this machine …", file=sys.stderr)  # noqa: T201 - torch takes seconds to import
    findings = [finding for look in LOOKS for finding in look()]
    if options.ceilings:
        findings += _measured_ceilings(options.device, options.threads, quiet=options.json)
    else:
        findings += _kept_ceilings()
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))  # noqa: T201
    else:
        _print(findings)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="kvbench doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument(
        "--ceilings",
        action="store_true",
        help="also measure what this machine can do at most, and keep it: records then tell how far a run is from it",
    )
    parser.add_argument("--device", default="auto", help="for --ceilings: cpu, cuda, cuda:N (default: as runs choose)")
    parser.add_argument("--threads", type=int, help="for --ceilings: CPU threads, as the key threads of a run")
    return parser


def _machine() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    yield Finding("python", None, f"{platform.python_version()} on {platform.platform()}")
    yield Finding("cpu", None, f"{psutil.cpu_count(logical=False)} cores, {psutil.cpu_count()} logical")
    yield Finding("memory", None, f"{memory.available / 2**30:.1f} GiB available of {memory.total / 2**30:.1f} GiB")


def _libraries() -> Iterator[Finding]:
    for name in ("torch", "transformers", "accelerate", "hydra-core", "nvidia-ml-py"):
        try:
            yield Finding(name, True, version(name), needed=True)
        except PackageNotFoundError:
            yield Finding(name, False, "not installed", f"pip install {name}", needed=True)


def _devices() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        size = f"{properties.total_memory / 2**30:.0f} GiB"
        yield Finding(f"cuda:{index}", True, f"{properties.name}, {size}", gives=f"device=cuda:{index}")
    if torch.cuda.device_count() == 0:
        built = torch.version.cuda or torch.version.hip
        remedy = "check the driver with nvidia-smi" if built else "for a GPU, install a torch build with CUDA or ROCm"
        yield Finding("cuda", False, "torch sees no GPU; runs use the CPU", remedy, needed=_has_nvidia_gpu())
    if torch.backends.mps.is_available():
        yield Finding("mps", True, "Apple GPU", gives="device=mps")


def _has_nvidia_gpu() -> bool:
    """Whether the driver knows a GPU: then it is a fault that torch sees none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return False


def _nvml() -> Iterator[Finding]:
    import pynvml

    from kvbench.measuring.sensors import nvml_reason

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield Finding("nvml", False, nvml_reason(error), "device memory, clocks and energy stay null without it")
        return
    yield Finding("nvml", True, f"driver {pynvml.nvmlSystemGetDriverVersion()}")
    for index in range(pynvml.nvmlDeviceGetCount()):
        device = pynvml.nvmlDeviceGetHandleByIndex(index)
        for name, query, unit in (
            ("energy counter", pynvml.nvmlDeviceGetTotalEnergyConsumption, "mJ since the driver was loaded"),
            ("sm clock", partial(pynvml.nvmlDeviceGetClockInfo, type=pynvml.NVML_CLOCK_SM), "MHz now"),
            ("power cap", pynvml.nvmlDeviceGetPowerManagementLimit, "mW"),
        ):
            try:
                yield Finding(f"{name} {index}", True, f"{query(device):,} {unit}")
            except pynvml.NVMLError as error:
                yield Finding(f"{name} {index}", False, nvml_reason(error))


def _compiler() -> Iterator[Finding]:
    from kvbench.measuring.environment import found_compiler

    found = found_compiler("cpu")
    remedy = "" if found else "install a C++ compiler: torch.compile needs one on the CPU"
    yield Finding("torch.compile", found is not None, f"C++ compiler {found or 'not found'}", remedy, "engine=compiled")


def _measured_ceilings(device_name: str, threads: int | None, *, quiet: bool) -> list[Finding]:
    """Measure and keep. Raises `DeviceUnavailable`, or `RecordError` where they cannot be kept."""
    import torch

    from kvbench.measuring.clocks import HostClock
    from kvbench.measuring.environment import ForeignCpuLoad
    from kvbench.measuring.probes import measure_ceilings
    from kvbench.models.devices import free_bytes, resolve
    from kvbench.records.ceilings import keep_ceilings

    def tell(what: str) -> None:
        if not quiet:
            print(f"measuring: {what} …", file=sys.stderr)  # noqa: T201 - half a minute passes

    device = resolve(device_name)
    if threads is not None:
        torch.set_num_threads(threads)
    others = ForeignCpuLoad(HostClock())
    found = measure_ceilings(device, _environment_of(device), free_bytes(device), tell)
    lines = [*_ceiling_lines(found), *_disturbed(others.busy())]
    return [*lines, Finding("ceilings kept", True, str(keep_ceilings(found)))]


def _disturbed(other_cores: float | None) -> Iterator[Finding]:
    if other_cores is not None and other_cores > BUSY_CORES:
        detail = f"other processes kept {other_cores:.1f} cores busy: the figures above are too low"
        yield Finding("quiet machine", False, detail, "measure again when nothing else runs")


def _kept_ceilings() -> list[Finding]:
    from kvbench.models.devices import resolve
    from kvbench.records.ceilings import load_ceilings

    found = load_ceilings(_environment_of(resolve("auto")))
    if found is None:
        return [Finding("ceilings", False, "not measured: MBU, MFU and floors are null", "kvbench doctor --ceilings")]
    return _ceiling_lines(found)


def _environment_of(device: torch.device) -> dict[str, Any]:
    from kvbench.measuring.environment import device_uuid, torch_environment
    from kvbench.measuring.sensors import open_sensors

    return torch_environment(device, open_sensors(device_uuid(device)))


def _ceiling_lines(found: Ceilings) -> list[Finding]:
    largest = max(found.read, key=lambda rate: rate.set_bytes, default=None)
    lines = [Finding("ceilings", True, f"{found.device_name}, measured {found.measured_at}")]
    if largest is not None:
        size = f"{largest.set_bytes / 2**20:,.0f} MiB"
        lines.append(Finding("read bandwidth", True, f"{largest.bytes_per_s / 1e9:,.1f} GB/s over {size}"))
    for dtype in dict.fromkeys(rate.dtype for rate in found.matrix):
        best = max((rate for rate in found.matrix if rate.dtype == dtype), key=lambda rate: rate.flops_per_s)
        shape = f"{best.rows:,} × {best.width:,} × {best.width:,}"
        lines.append(Finding(f"matrix rate {dtype}", True, f"{best.flops_per_s / 1e12:,.3g} TFLOP/s at {shape}"))
    lines.append(Finding("launch", True, f"{found.launch_s * 1e6:.2f} µs a small operation"))
    return [*lines, *_host_lines(found.host)]


def _host_lines(host: HostCheck | None) -> Iterator[Finding]:
    """What runs compare their host with."""
    figures = {} if host is None else host.model_dump()
    known = [f"{HOST_FIGURES[name]} {format_value(value, 's')}" for name, value in figures.items() if value is not None]
    if known:
        yield Finding("host speed", True, ", ".join(known))


def _extras() -> Iterator[Finding]:
    for name, purpose, extra in EXTRAS:
        installed = is_installed(name)
        detail = purpose if installed else f"not installed: {purpose}"
        yield Finding(name, installed, detail, "" if installed else install_hint(extra), purpose)


def _fp8_cache() -> Iterator[Finding]:
    from transformers import cache_utils

    works = hasattr(cache_utils, "Fp8QuantizedLayer")
    remedy = "" if works else "pip install -U transformers"
    yield Finding(
        "fp8 cache", works, "cache=fp8" if works else "not in this transformers: cache=fp8", remedy, "cache=fp8"
    )


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _machine,
    _libraries,
    _devices,
    _nvml,
    _compiler,
    _extras,
    _fp8_cache,
)


def _print(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(_summary(findings), style="bold"))
    console.print()
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        missing = Text("✗", "bold red") if finding.needed else Text("–", "dim")
        mark = {True: Text("✓", "green"), False: missing, None: Text(" ")}[finding.works]
        detail = Text(finding.detail)
        if finding.remedy:
            detail.append(f"  → {finding.remedy}", style="dim")
        table.add_row(mark, finding.name, detail)
    console.print(table)


def _summary(findings: Sequence[Finding]) -> str:
    """What can be measured here, in a sentence, or what has to be mended first."""
    broken = [finding for finding in findings if finding.needed and finding.works is False]
    if broken:
        return f"Mend first: {'; '.join(f'{each.name}: {each.detail} ({each.remedy})' for each in broken)}."
    more = [finding.gives for finding in findings if finding.works and finding.gives]
    beside = f" Also: {'; '.join(more)}." if more else ""
    return f"You can run `python -m kvbench` here, with every mode on the CPU.{beside}"
